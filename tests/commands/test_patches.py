"""The command ``patches``: masks of every kind, size and class file, and slides with annotations."""

import csv
import itertools
import json

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


@pytest.mark.slow
def test_patches_that_mix_all_classes_are_told_a_size_that_helps(tmp_path, cut):
    for path in (tmp_path / "mask").iterdir():
        stripes = np.repeat(np.arange(100) // 24 % 2, 1)[: np.asarray(Image.open(path)).shape[1]]
        colours = np.array([(200, 0, 0), (0, 200, 0)], np.uint8)[stripes]
        Image.fromarray(np.broadcast_to(colours, (48, *colours.shape)).copy()).save(path)
    status, _, said = cut("--size", 48)
    assert status == 0 and "have every class, and cannot teach where each is; cut smaller patches" in said
    assert "such as of 24 px" in said


@pytest.mark.slow
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


@pytest.mark.slow
def test_indices_are_read_with_a_note_that_says_which_is_which(tmp_path, cut):
    masks(tmp_path, lambda image: Image.fromarray(np.uint8(np.asarray(image)[..., 1] > 0)))
    status, rows, said = cut()
    assert status == 0 and ["0_0_0.png", "1", "0"] in rows and ["0_0_48.png", "0", "1"] in rows
    (note,) = (line for line in said.splitlines() if line.startswith("note: "))
    assert "0 = red, 1 = green" in note and "1 more file" in note


@pytest.mark.slow
def test_masks_of_another_size_are_noted_and_of_another_shape_refused(tmp_path, cut):
    masks(tmp_path, lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST))
    status, rows, said = cut()
    assert status == 0 and len(rows) == 1 + 2 * 3 * 4 and ["0_0_0.png", "1", "0"] in rows
    assert "note: " in said and "128 x 96 px" in said and "64 x 48 px" in said
    with Image.open(tmp_path / "mask" / "0.png") as image:
        image.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "mask" / "0.png")
    status, rows, said = cut("--force")
    assert status == 1 and not any(name.startswith("0") for name, *_ in rows)
    (failure,) = (line for line in said.splitlines() if line.startswith("failed: "))
    assert "0.png: 64 x 64 px, expected 64 x 48" in failure
    masks(tmp_path, lambda image: image.resize((64, 64), Image.Resampling.NEAREST))
    assert cut("--force")[0] == 2
    status, rows, said = cut("--resize", "--force")
    assert status == 0 and len(rows) == 1 + 2 * 3 * 4 and ["0_0_0.png", "1", "0"] in rows and "note" not in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_class_files_of_each_kind(tmp_path, cut, kind):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.toml").write_text(class_file_of_kind(kind))
    status, rows, _ = cut(classes=("--model", "mine", "--root", tmp_path))
    assert status == 0 and rows[0] == ["patch", "red", "green"] and len(rows) == 1 + 2 * 3 * 4
    (tmp_path / "data" / "mine.toml").write_text(f"{class_file_of_kind(kind)}\n[groups]\nall = ['tissue', 'tissue']\n")
    status, _, said = cut("--label-set", "all", classes=("--model", "mine", "--root", tmp_path))
    assert status == 2 and "--label-set all: expected one, out of tissue" in said


def test_a_label_set_without_outputs_labels_nothing(tmp_path, cut):
    (tmp_path / "data").mkdir()
    lines = class_file_of_kind("background").splitlines()
    bare = "\n".join(line for line in lines if not line.startswith(("red = [", "green = [")))
    (tmp_path / "data" / "mine.toml").write_text(bare)
    status, rows, said = cut(classes=("--model", "mine", "--root", tmp_path))
    assert status == 2 and not rows and "tissue: none of its classes is an output of mine: no labels" in said


@pytest.mark.slow
def test_colours_that_no_mask_has_are_named(tmp_path, cut):
    status, _, said = cut(classes=("--classes", "red=#c80001", "green=#00c801"))
    assert status == 2 and "0.png: 3072 pixels have a colour of no class, such as #c80000" in said
    status, rows, said = cut(classes=("--classes", "red=#c80000", "green=#00c801"))
    assert status == 0 and len(rows) == 1 + 2 * 3 * 2 and "such as #00c800" in said
    assert "note: in no patch at all: green; check their colours in the masks" in said
    status, _, said = cut()
    assert status == 2 and "cut: holds patches of another run (classes, green: [0, 200, 1], now [0, 200, 0])" in said


@pytest.mark.slow
def test_what_is_not_there_is_named(tmp_path, cut):
    (tmp_path / "data").mkdir()
    status, _, said = cut(classes=("--model", "none", "--root", tmp_path))
    assert status == 2 and "choose one of: colon_glands, histonet_X1.7_phantom" in said
    (tmp_path / "mask" / "0.png").unlink()
    status, _, said = cut()
    assert status == 1 and "0.png: no such ground truth" in said and "gt_mode" not in said
    status, _, said = cut(classes=("--classes", "red=#c80000", "red=#00c800"))
    assert status == 2 and "--classes red=#00c800: its name or colour is there already" in said


def annotate(folder, **squares):
    """Annotate images in ``img``: for each by its stem, squares of 16 px with their class, from a corner on."""
    (folder / "annotations").mkdir(exist_ok=True)
    for stem, marks in squares.items():
        features = []
        for name, (x, y) in marks:
            ring = [[x, y], [x + 16, y], [x + 16, y + 16], [x, y + 16], [x, y]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}})
        (folder / "annotations" / f"{stem}.geojson").write_text(json.dumps(features))


@pytest.mark.slow
def test_slides_with_annotations(tmp_path, command):
    write_halves(tmp_path, count=4)
    for number in range(4):
        (tmp_path / "img" / f"{number}.png").rename(tmp_path / "img" / f"s{number}.png")
    marks = [("left", (0, 0)), ("left", (16, 16)), ("Right", (32, 0)), ("Other", (48, 16)), (None, (48, 32))]
    annotate(tmp_path, s0=marks, s1=[("LEFT", (0, 0)), ("Right", (40, 4))])
    (tmp_path / "annotations" / "s2.geojson").write_text("{")
    options = ("--slides", tmp_path / "img", "--annotations", tmp_path / "annotations", "--out", tmp_path / "cut", *CUT)
    options = (*options, "--patch-mpp", 1, "--classes", "left", "right=#00c800")
    status, _, err = command("patches", *options)
    table = [*csv.reader((tmp_path / "cut" / "labels.csv").read_text().splitlines())]
    assert status == 1 and table[0] == ["patch", "left", "right"]
    assert {name: labels for name, *labels in table[1:]} == {
        **{"s0_0_0.png": ["1", "0"], "s0_16_16.png": ["1", "0"], "s0_0_32.png": ["0", "1"]},
        **{"s1_0_0.png": ["1", "0"], "s1_4_40.png": ["0", "1"]},  # the last is around a square off the grid
    }
    assert "s0.geojson: left out, of no class of masks: Other (1), no class (1)" in err
    assert "left out: 1 slide without annotations: s3.png" in err and "train would validate on patches of slides" in err
    assert "failed: " in err and "s2.geojson: not GeoJSON as QuPath exports it" in err
    with Image.open(tmp_path / "img" / "s1.png") as slide, Image.open(tmp_path / "cut" / "s1_4_40.png") as patch:
        np.testing.assert_array_equal(np.asarray(patch), np.asarray(slide)[4:20, 40:56])
    (tmp_path / "annotations" / "s2.geojson").unlink()
    status, _, _ = command("patches", *options, "--validation", 0.5, "--max-per-class", 1, "--force")
    assert status == 0 and not (tmp_path / "cut" / "labels.csv").exists()
    for part in ("train", "validation"):  # one slide each
        rows = [*csv.reader((tmp_path / "cut" / part / "labels.csv").read_text().splitlines())][1:]
        assert len({name[:2] for name, *_ in rows}) == 1 and sorted(labels for _, *labels in rows) == [
            ["0", "1"],
            ["1", "0"],
        ]


def test_what_does_not_go_together_is_said(tmp_path, command):
    write_halves(tmp_path)
    slides, annotated = ("--slides", tmp_path / "img"), ("--annotations", tmp_path / "annotations")
    out = ("--out", tmp_path / "cut", "--size", 16)
    for options, message in [
        ((*slides, *annotated), "annotations: no such folder"),
        (slides, "--annotations is missing: it goes with --slides"),
        ((*slides, *annotated, "--truth", tmp_path), "--truth does not go with --slides"),
        (("--images", tmp_path / "img", "--truth", tmp_path / "mask"), "--mpp is missing: it goes with --images"),
        (("--images", tmp_path / "img", "--truth", tmp_path / "mask", "--mpp", 1), "one of --classes and --model"),
    ]:
        status, _, err = command("patches", *options, *out)
        assert status == 2 and message in err
    annotate(tmp_path, other=[])
    status, _, err = command("patches", *slides, *annotated, *out)
    assert status == 2 and "no annotations of the 2 slides" in err and "expected such as 0.png.geojson" in err
    annotate(tmp_path, **{"0": [("left", (0, 0))]})
    assert "--patch-mpp is missing" in command("patches", *slides, *annotated, *out)[2]
    annotate(tmp_path, **{"0": [(None, (0, 0))]})
    assert "0 classes; name 1 to 254 by --classes" in command("patches", *slides, *annotated, *out)[2]
    assert not (tmp_path / "cut").exists()
