"""The command ``patches``: masks of every kind, size and class file."""

import csv
import itertools

import numpy as np
import pytest
from helpers import KINDS, class_file_of_kind, write_halves
from PIL import Image

CUT = ("--size", 16, "--stride", 16, "--mpp", 1, "--share", 0.3, "--quiet")
CLASSES = ("--classes", "red=#c80000", "green=#00c800")


@pytest.fixture
def cut(tmp_path, command):
    """Cut images of which one half is red and one green; return status, rows of the table and what was said."""
    write_halves(tmp_path)

    def run(*options, classes=CLASSES):
        folders = ("--images", tmp_path / "img", "--truth", tmp_path / "mask", "--out", tmp_path / "cut")
        status, out, err = command("patches", *folders, *CUT, *classes, *options)
        table = tmp_path / "cut" / "labels.csv"
        return status, list(csv.reader(table.read_text().splitlines())) if table.exists() else [], out + err

    return run


def masks(tmp_path, change):
    for path in (tmp_path / "mask").iterdir():
        with Image.open(path) as image:
            changed = change(image.convert("RGB"))
        changed.save(path)


def as_palette(order):
    """Return what turns a mask into a palette file with its colours in some order, and one more."""

    def change(image):
        colours = [[(200, 0, 0), (0, 200, 0), (1, 2, 3)][i] for i in order]
        pixels = np.asarray(image)
        indices = sum(np.uint8(i) * (pixels == colour).all(axis=2) for i, colour in enumerate(colours))
        palette = Image.fromarray(indices.astype(np.uint8), "P")
        palette.putpalette(list(itertools.chain(*colours)))
        return palette

    return change


@pytest.mark.parametrize("order", [None, *itertools.permutations(range(3))])
def test_colours_count_whatever_their_order_in_a_palette(tmp_path, cut, order):
    if order:
        masks(tmp_path, as_palette(order))
    status, (header, *rows), said = cut()
    assert status == 0 and header == ["patch", "red", "green"] and "note" not in said
    assert len(rows) == 2 * 3 * 4
    for name, *present in rows:
        column = int(name.removesuffix(".png").rpartition("_")[2])
        assert present == (["1", "0"] if column < 32 else ["0", "1"])


def test_indices_are_read_with_a_note_that_says_which_is_which(tmp_path, cut):
    masks(tmp_path, lambda image: Image.fromarray(np.uint8(np.asarray(image)[..., 1] > 0)))
    status, rows, said = cut()
    assert status == 0 and ["0_0_0.png", "1", "0"] in rows and ["0_0_48.png", "0", "1"] in rows
    (note,) = (line for line in said.splitlines() if line.startswith("note: "))
    assert "0 = red, 1 = green" in note and "1 more file" in note


def test_masks_of_another_size_are_noted_and_of_another_shape_refused(tmp_path, cut):
    masks(tmp_path, lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST))
    status, rows, said = cut()
    assert status == 0 and len(rows) == 1 + 2 * 3 * 4 and ["0_0_0.png", "1", "0"] in rows
    assert "note: " in said and "128 x 96 px" in said and "64 x 48 px" in said
    with Image.open(tmp_path / "mask" / "0.png") as image:
        image.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "mask" / "0.png")
    status, rows, said = cut()
    assert status == 1 and not any(name.startswith("0") for name, *_ in rows)
    (failure,) = (line for line in said.splitlines() if line.startswith("failed: "))
    assert "0.png: 64 x 64 px, expected 64 x 48" in failure
    masks(tmp_path, lambda image: image.resize((64, 64), Image.Resampling.NEAREST))
    assert cut()[0] == 2
    status, rows, said = cut("--resize")
    assert status == 0 and len(rows) == 1 + 2 * 3 * 4 and ["0_0_0.png", "1", "0"] in rows and "note" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_class_files_of_each_kind(tmp_path, cut, kind):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.toml").write_text(class_file_of_kind(kind))
    status, rows, _ = cut(classes=("--model", "mine", "--root", tmp_path))
    assert status == 0 and rows[0] == ["patch", "red", "green"] and len(rows) == 1 + 2 * 3 * 4
    (tmp_path / "data" / "mine.toml").write_text(f"{class_file_of_kind(kind)}\n[groups]\nall = ['tissue', 'tissue']\n")
    status, _, said = cut("--label-set", "all", classes=("--model", "mine", "--root", tmp_path))
    assert status == 2 and "--label-set all: expected one, out of tissue" in said


def test_what_is_not_there_is_named(tmp_path, cut):
    (tmp_path / "data").mkdir()
    status, _, said = cut(classes=("--model", "none", "--root", tmp_path))
    assert status == 2 and "choose a model that is there: colon_glands, histonet_X1.7_phantom" in said
    (tmp_path / "mask" / "0.png").unlink()
    status, _, said = cut()
    assert status == 1 and "0.png: no such ground truth" in said and "gt_mode" not in said
    status, _, said = cut(classes=("--classes", "red=#c80000", "red=#00c800"))
    assert status == 2 and "--classes red=#00c800: its name or colour is there already" in said
