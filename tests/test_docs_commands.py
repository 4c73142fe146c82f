"""The documents' commands do what is printed: page by page, in order, in one folder, on small inputs."""

import csv
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import commands_of

from hsn_v1.adp import ADP
from hsn_v1.io.writing import write_picture
from hsn_v1.phantoms.phantom_slide import write_slide

REPOSITORY = Path(__file__).parents[1]

#: Options that make a command quick. They come after the printed ones, and count instead of them.
QUICKER = {
    "train": "--epochs 1 --width 0.05 --tile 32 --saved-tile 32 --batch 16",
    "--patches": "--patches 16",
    "efficientnet-lite0": "--tile 128 --saved-tile 64",
    "phantom": "--count 1",
    "slide": "--size 400 --mpp 0.5 --count 1",
    "tune-crf": "--trials 1",
    "--label-sets": "--count 1",
    "BEFORE.h5": "--weights none",
}

#: What needs a cluster, see `commands.test_segment`, and what trains, which other pages do.
NOT_RUN = {"--dask", "--dask-config"}
NOT_RUN_ON = {"docs/benchmarks.md": {"benchmark", "train", "tune-crf"}}

#: The page that one worker process is started for; the others go without.
IN_WORKERS = "docs/own_classes.md"

#: What people fill in after a word.
FILLED = {
    **{"segment": "img", "--images": "img", "--out": "out", "--root": "."},
    **dict.fromkeys(("--truth", "--prediction", "--against"), "mask"),
    **{"--model": "histonet_X1.7_phantom56", "--labels": "glas", "--csv": "scores.csv", "--per-image": "images.csv"},
    **{"--group": "case", "--group-table": "cases.csv"},
}

CLASSES = {"tumour": "#004080", "stroma": "#408000", "normal": "#f39800"}
GLANDS = {"other": "#039be5", "gland": "#000080"}


def draw(rng, side, present):
    """Return an image in vertical stripes of some of three tissues, and the stripes' numbers."""
    labels = np.array(present)[np.arange(side) * len(present) // side][np.newaxis].repeat(side, axis=0)
    image = np.array([(150, 60, 150), (220, 150, 190), (190, 200, 220)])[labels] + rng.integers(
        -20, 21, (side, side, 3)
    )
    return image.clip(0, 255).astype(np.uint8), labels


def write_pairs(rng, images, masks, colours, side=96, count=3, name="{}.png"):
    """Write images, and their masks in colours."""
    table = np.array([[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in colours], np.uint8)
    for number in range(count):
        image, labels = draw(rng, side, range(len(colours)))
        write_picture(images / name.format(number), image)
        write_picture(masks / name.format(number), table[labels])


def write_patches(rng, folder, count=90):
    """Write patches with one or two of three classes, and the table of their labels."""
    rows = []
    for number in range(count):
        present = sorted({number % 3, (number // 3) % 3})
        write_picture(folder / f"{number:04d}.png", draw(rng, 32, present)[0])
        rows.append([f"{number:04d}.png", *(int(index in present) for index in range(3))])
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["patch", *CLASSES], *rows])


def write_own_classes(folder):
    rng = np.random.default_rng(0)
    write_patches(rng, folder / "patches")
    for part in ("validation", "test"):
        write_pairs(rng, folder / part / "img", folder / part / "mask", CLASSES.values())
    write_pairs(rng, folder / "img", folder / "mask", GLANDS.values(), side=160, count=4)


def write_slides(folder):
    write_slide(folder / "slide.tif", 400, 0.5, 0.6, 0)
    (folder / "slides").mkdir()
    for name in ("slides/a.tif", "slides/b.tif", "slide.svs"):
        shutil.copy(folder / "slide.tif", folder / name)
    (folder / "slides.csv").write_text("path,site\nslides/a.tif,x\nslides/b.tif,y\n")
    for file in sorted((REPOSITORY / "img/01_phantom_patch").glob("*.png"))[:2]:
        (folder / "photos").mkdir(exist_ok=True)
        shutil.copy(file, folder / "photos")


def write_a_set(folder):
    for file in sorted((REPOSITORY / "img/01_phantom_patch").glob("*.png"))[:1]:
        (folder / "img/01_phantom_patch").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / "img/01_phantom_patch")


def write_measured(folder):
    rng = np.random.default_rng(0)
    for part in ("FIT", "HELD", "TEST", "VALIDATION"):
        for masks, colours in (("gt", GLANDS.values()), ("mask", CLASSES.values())):
            write_pairs(rng, folder / part / "img", folder / part / masks, colours)
    for part in ("cut/validation", "wsss/validation"):
        write_patches(rng, folder / part, 30)
        with open(folder / part / "labels.csv", "w", newline="") as file:
            names = [["patch", *GLANDS, *CLASSES]]
            csv.writer(file).writerows(
                names + [[f"{n:04d}.png", n % 2, 1 - n % 2, *np.eye(3, dtype=int)[n % 3]] for n in range(30)]
            )


def write_benchmark(folder):
    rng = np.random.default_rng(0)
    name = f"{{}}+0[{'1' * len(ADP.codes)}].png"  # with a patch's classes
    write_pairs(rng, folder / "img", folder / "mask", GLANDS.values(), count=2, name=name)
    write_pairs(rng, folder / "FIT/img", folder / "FIT/gt", GLANDS.values(), side=160, count=4)
    (folder / "cases.csv").write_text(f"image,case\n{name.format(0)},a\n{name.format(1)},b\n")


def write_real_tissue(folder):
    rng = np.random.default_rng(0)
    write_patches(rng, folder / "patches", 32)
    for number in range(2):
        image, labels = draw(rng, 96, range(3))
        write_picture(folder / f"held_out/img/{number}.png", image)
        write_picture(folder / f"held_out/mask/{number}.png", labels.astype(np.uint8))  # class indices
        write_picture(folder / f"slides/{number}.png", image)


#: The same for pages on which others do.
QUICKER_ON = {
    "docs/benchmarks.md": {"segment": "--labels glas"},
    "docs/phantoms.md": QUICKER | {"train": f"{QUICKER['train']} --validation 8"},
    "docs/qupath.md": {
        "phantom": "--size 600 --mpp 0.5 --tissue 0.9",
        "--region": "--region 0.6",
        "patches": "--stride 40",
        "train": "--saved-tile 128",
        "segment": "--no-flips --scales 1 --stride 128",
    },
    "docs/real_tissue.md": {
        "train": "--tile 128 --saved-tile 64 --epochs 1",
        "tune-crf": "--trials 1 --no-flips --scales 1",
        "segment": "--no-flips --scales 1",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "write_inputs"),
    [
        ("README.md", write_a_set),
        ("docs/own_classes.md", write_own_classes),
        ("docs/slides.md", write_slides),
        ("docs/cluster.md", write_slides),
        ("docs/phantoms.md", lambda folder: None),
        ("docs/measurements.md", write_measured),
        ("docs/benchmarks.md", write_benchmark),
        ("docs/qupath.md", lambda folder: None),
        ("docs/real_tissue.md", write_real_tissue),
    ],
)
def test_commands_do_what_the_page_says(page, write_inputs, tmp_path, monkeypatch, command, eagerly, request):
    write_inputs(tmp_path)
    shutil.copytree(REPOSITORY / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # one worker process
    if page != IN_WORKERS:
        request.getfixturevalue("in_process")
    done = 0
    for words in commands_of(REPOSITORY / page):
        if words[0] == "hsn-v1" and not (NOT_RUN | NOT_RUN_ON.get(page, set())) & set(words):
            words = [FILLED[before] if word.isupper() else word for before, word in pairwise(["", *words])]
            options = QUICKER_ON.get(page, QUICKER)
            quicker = [option for word in words for option in options.get(word, "").split()]
            status, _, errors = command(*words[1:], *quicker)
            assert status == 0, f"{' '.join(words)}: {errors}"
            done += 1
    assert done
