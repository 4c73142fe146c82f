"""Change small slides and images at random, open and read each, and count what comes of it.

Run in the repository's root: ``python tests/fuzz_images.py [--changes 200] [--dicom FOLDER]``. The seeds are fixed.
A file is read, or refused in one line, which also says where its reader died or was ended. Other exceptions and hangs
are what must not be.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from fuzz_models import bad_outcomes, changed_bytes
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.slide_io.slide import open_slide

SECONDS = 60  #: a hang
IMAGE = np.kron(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
SCALE = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
TILED = {"tile": (64, 64), "photometric": "rgb", **SCALE}
APERIO = "Aperio Image Library v1\r\n320x256 [0,0 320x256] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"


def _pillow(path: Path) -> None:
    Image.fromarray(IMAGE).save(path, dpi=(50_800, 50_800))


def _strips(path: Path) -> None:
    tifffile.imwrite(path, IMAGE, photometric="rgb", rowsperstrip=16, metadata=None, **SCALE)


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE, compression="jpeg", metadata=None, **TILED)
        file.write(IMAGE[::4, ::4], compression="jpeg", subfiletype=1, metadata=None, **TILED)


def _ome(path: Path) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(IMAGE, subifds=1, metadata=metadata, compression="zlib", **TILED)
        file.write(IMAGE[::2, ::2], subfiletype=1, **TILED)


def _aperio(path: Path) -> None:
    tifffile.imwrite(path, IMAGE, compression="jpeg", description=APERIO, metadata=None, **TILED)


KINDS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("a.png", "a.jpg", "a.bmp", "a.webp", "a.jp2"), _pillow),
    "strips.tif": _strips,
    "pyramid.tif": _pyramid,
    "a.ome.tif": _ome,
    "a.svs": _aperio,
}


def outcome_of_changed(path: Path, content: bytes, seed: int) -> str:
    """Change a few bytes of a file, half of the times in its first or last ones, where headers are, and open it."""
    rng = np.random.default_rng(seed)
    part = rng.integers(4)
    if part == 0:
        content = changed_bytes(content[:600], rng) + content[600:]
    elif part == 1:
        content = content[:-600] + changed_bytes(content[-600:], rng)
    else:
        content = changed_bytes(content, rng)
    path.write_bytes(content)
    return outcome_of(path)


def outcome_of(path: Path) -> str:
    """Open a file, read its pixels and some at another scale, and return what came of it."""
    began = time.monotonic()
    try:
        with open_slide(path, 0.5) as slide:
            slide.read(slide.frame(8), 8)
            slide.read(slide.frame(0.5).overlap(slide.frame(slide.mpp)), slide.mpp)
        outcome = "read"
    except InputError as error:
        reasons = {"its reader died": ", as the reader died", "could not be read in": ", as it took too long"}
        outcome = "refused" + next((reason for words, reason in reasons.items() if words in str(error)), "")
        if "\n" in str(error) or len(str(error)) > 1000:
            outcome = "more than a line"
    except BaseException as error:
        outcome = f"traceback {type(error).__name__}"
    return "hang" if time.monotonic() - began > SECONDS + 10 else outcome


def main() -> int:
    """Print how many changed files came to what, and return 1 if one of them came to what must not be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=200, help="of each kind of file (default: 200)")
    parser.add_argument("--dicom", type=Path, metavar="FOLDER", help="a small DICOM slide, which nothing here writes")
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, write in KINDS.items():
            write(folder / kind)
        files = {kind: folder / kind for kind in KINDS}
        if arguments.dicom:
            shutil.copytree(arguments.dicom, folder / "dicom")
            files["DICOM"] = max((folder / "dicom").iterdir(), key=lambda path: path.stat().st_size)
        for kind, path in files.items():
            if (outcome := outcome_of(path)) != "read":
                raise SystemExit(f"{kind}: the unchanged file is not read: {outcome}")
            before = path.read_bytes()
            bad += bad_outcomes(kind, arguments.changes, partial(outcome_of_changed, path, before))
            path.write_bytes(before)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
