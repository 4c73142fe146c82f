"""Small inputs, and all commands that write, applied to them: for `kills.py` and `full_disk.py`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import REPOSITORY

HALVES = {"red": ((200, 60, 60), (0, 0, 128)), "green": ((60, 200, 60), (3, 155, 229))}  #: in images and in masks
CLASSES = [f"{name}=#{bytes(mask).hex()}" for name, (_, mask) in HALVES.items()]

#: Files with times or a run's course, which differ from run to run.
VARIES = ("index.html", "run.json", "segmented.csv", "status.csv", "settings.json")


@dataclass(frozen=True)
class Case:
    """A command that writes into a folder.

    Attributes
    ----------
    name : str
    arguments : list of str
        Arguments of Python; ``{out}`` stands for the folder.
    status : int
        Exit status of a complete run.
    repeats : bool
        Whether it writes the same bytes even if it was interrupted.
    """

    name: str
    arguments: list[str]
    status: int = 0
    repeats: bool = True

    def command(self, out: Path) -> list[str]:
        """Return the command line for an output folder."""
        return [sys.executable, *(argument.replace("{out}", str(out)) for argument in self.arguments)]


def hsn(*arguments: object) -> list[str]:
    """Return arguments of Python that run a command of the package."""
    return ["-m", "hsn_v1", *map(str, arguments)]


def make_inputs(folder: Path) -> None:
    """Write a slide, images, a data set with masks and an archive into a folder."""
    from hsn_v1.io.writing import write_picture

    phantom = ["phantom", "--seed", 50_000, "--out", folder]
    for more in (["--kind", "patch", "--count", 4, "--name", "few"], ["--kind", "slide", "--size", 3000, "--mpp", 0.5]):
        subprocess.run([sys.executable, *hsn(*phantom, *more)], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    rng = np.random.default_rng(0)
    left = np.arange(64)[np.newaxis, :, np.newaxis].repeat(48, axis=0) < 32  # (48, 64, 1)
    (red, red_mask), (green, green_mask) = HALVES.values()
    for part, i in ((part, i) for part in ("train", "val", "test") for i in range(4)):
        image = np.where(left, red, green) + rng.integers(-20, 20, (48, 64, 3))
        write_picture(folder / "halves" / part / "img" / f"{i}.png", np.uint8(image))
        write_picture(folder / "halves" / part / "mask" / f"{i}.png", np.uint8(np.where(left, red_mask, green_mask)))
    with zipfile.ZipFile(folder / "hsn_data.zip", "w") as archive:
        for i in range(40):
            archive.writestr(f"img/01_tuning_patch/{i}.png", rng.bytes(100_000))


def cases(inputs: Path) -> list[Case]:
    """Return all commands that write files."""
    few, halves = inputs / "img" / "few", inputs / "halves"
    model = ["--model", "histonet_X1.7_phantom", "--root", "{out}", "--quiet"]
    quick = ["--width", 0.05, "--tile", 16, "--saved-tile", 32, "--batch", 4]
    slide = inputs / "phantom_slide_050000.tif"
    cut = ["--images", halves / "train" / "img", "--truth", halves / "train" / "mask", "--size", 16, "--mpp", 1]
    phantoms = ["--patches", 64, "--validation", 24, "--epochs", 8]
    return [
        Case("segment slide", hsn("segment", slide, *model, "--maps", "adjusted", "--labels", "func")),
        Case("segment images", hsn("segment", few, *model, "--mpp", 1.2143, "--labels", "func")),
        Case("demo", [str(REPOSITORY / "demo_01_segment_patches.py"), "--out", "{out}/demo", "--quiet"]),
        Case("train", hsn("train", "--name", "mine", "--root", "{out}", *phantoms, *quick, "--quiet"), repeats=False),
        Case("tune-crf", hsn("tune-crf", *model, "--label-sets", "func", "--count", 4, "--trials", 6)),
        Case("data", hsn("data", inputs / "hsn_data.zip", "--root", "{out}"), status=1),
        Case("patches", hsn("patches", *cut, "--stride", 4, "--out", "{out}/cut", "--classes", *CLASSES, "--quiet")),
        Case("phantom set", hsn("phantom", "--kind", "glas", "--count", 4, "--out", "{out}")),
        Case("phantom slide", hsn("phantom", "--kind", "slide", "--size", 2000, "--mpp", 0.5, "--out", "{out}")),
        Case(
            "benchmark",
            hsn(
                *("benchmark", halves, "--classes", *CLASSES, "--mpp", 1, "--root", "{out}", "--patch", 16),
                *("--tuning", 4, "--trials", 4, "--quiet"),
                *("--train-options", " ".join(map(str, ["--epochs", 2, *quick]))),
            ),
            repeats=False,
        ),
    ]


def run(case: Case, out: Path, **options) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    options = {"capture_output": True, "text": True, "cwd": REPOSITORY, **options}
    return subprocess.run(case.command(out), check=False, **options)


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of each file in a folder that should be the same in all runs, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in VARIES
    }


def leftovers(folder: Path) -> list[str]:
    """Return the files that a finished command should have removed: hidden ones, and parts of slides' results."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.name.endswith(".part")
    ]
