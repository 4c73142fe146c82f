"""Patches out of images with masks: their labels, and that no mask leaves."""

import csv

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.io.images import read_image
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import LabelSet
from hsn_v1.training.cut_patches import CONTEXT, balanced, cut_patches, read_context
from hsn_v1.training.labelled_images import Cut, images_with_masks

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0)}
LABELS = LabelSet("masks", COLOURS, {"a": 0, "b": 1})


@pytest.fixture
def folders(tmp_path, in_process, monkeypatch):
    """Make images of 24 x 16 px, half of class a and half of b, and their masks; no sheets are drawn."""
    rng = np.random.default_rng(0)
    mask = np.repeat([[*COLOURS.values()]], 12, axis=1).repeat(16, axis=0).astype(np.uint8)
    for i in range(4):
        write_picture(tmp_path / "img" / f"{i}.png", rng.integers(0, 256, (16, 24, 3), np.uint8))
        write_picture(tmp_path / "gt" / f"{i}.png", mask)
    monkeypatch.setattr("hsn_v1.show.sheets.sheet", lambda rows, columns: b"")
    return tmp_path


def cut_folder(folders, cut, out="out", factor=1.0, force=False):
    sources = images_with_masks(folders / "img", folders / "gt", LABELS, factor)
    return cut_patches(sources, LABELS, cut, folders / out, True, force)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_a_margin_is_seen_and_has_no_label(folders):
    out = folders / "out"
    cut_folder(folders, Cut(8, 8, context=2))
    image, patch = read_image(folders / "img" / "0.png")[0], read_image(out / "0_0_8.png")[0]
    np.testing.assert_array_equal(patch[2:], image[:10, 6:18])
    np.testing.assert_array_equal(patch[1::-1], image[:2, 6:18])  # mirrored at the image's edge
    assert rows(out / "labels.csv")[1:4:2] == [["0_0_0.png", "1", "0"], ["0_0_16.png", "0", "1"]]
    assert read_context(out) == (8, 2) and read_context(folders) is None
    (out / CONTEXT).write_text('{"size": 8, "context": -4}')
    with pytest.raises(InputError, match=r"context\.json: cannot be read; expected"):
        read_context(out)


def test_a_folder_is_cut_and_no_mask_is_written(folders):
    out = folders / "out"
    labels, notes, failures = cut_folder(folders, Cut(8, 8))
    assert (notes, failures) == ([], []) and list(labels) == [out]
    header, *table = rows(out / "labels.csv")
    assert header == ["patch", "a", "b"] and len(table) == 4 * 6
    assert {tuple(row[1:]) for row in table if row[0].endswith("_0.png")} == {("1", "0")}
    assert {tuple(row[1:]) for row in table if row[0].endswith("_8.png")} == {("1", "1")}
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(row[0] for row in table), "labels.csv", "patches.json", "sheets"]
    )
    patch, _ = read_image(out / "2_8_16.png")
    np.testing.assert_array_equal(patch, read_image(folders / "img" / "2.png")[0][8:, 16:])


def test_images_are_kept_apart_as_a_whole(folders):
    tables = [folders / "out" / part / "labels.csv" for part in ("train", "validation")]
    cut_folder(folders, Cut(8, 8, validation=0.25))
    train, validation = ({row[0][0] for row in rows(table)[1:]} for table in tables)
    assert len(train) == 3 and len(validation) == 1 and not train & validation
    with pytest.raises(InputError, match="some for both"):
        cut_folder(folders, Cut(8, 8, validation=0.01), "o")
    (left,) = validation
    (folders / "img" / f"{left}.png").write_bytes(b"no image")
    labels, _, (failure,) = cut_folder(folders, Cut(8, 8, validation=0.25), force=True)
    assert [part.shape for part in labels.values()] == [(18, 2), (0, 2)] and f"{left}.png" in failure
    assert rows(tables[1]) == [["patch", "a", "b"]]


def test_patches_may_be_of_another_scale(folders):
    cut_folder(folders, Cut(8, 8, 0.3), factor=0.5)
    table = rows(folders / "out" / "labels.csv")
    assert [row for row in table if row[0].startswith("0")] == [["0_0_0.png", "1", "0"], ["0_0_4.png", "0", "1"]]
    assert read_image(folders / "out" / "0_0_4.png")[0].shape == (8, 8, 3)


def test_what_cannot_be_cut_is_left_out_and_named(folders):
    (folders / "gt" / "0.png").unlink()
    (folders / "img" / "1.png").write_bytes(b"no image")
    for kind in ("img", "gt"):
        write_picture(folders / kind / "2.png", np.zeros((5, 5, 3), np.uint8))
    labels, _, failures = cut_folder(folders, Cut(8, 8))
    assert len(next(iter(labels.values()))) == 6
    assert len(failures) == 3 and "0.png" in failures[0] and "1.png" in failures[1] and "5 x 5 px" in failures[2]
    with pytest.raises(InputError, match="no patch was cut"):
        cut_folder(folders, Cut(64, 8), "out2")


def test_images_of_one_name_are_refused(folders):
    (folders / "img" / "0.jpg").write_bytes((folders / "img" / "0.png").read_bytes())
    with pytest.raises(InputError, match="would have the same name"):
        cut_folder(folders, Cut(8, 8))


def test_a_run_goes_on_where_it_was_and_replaces_patches_of_others_by_force_alone(folders):
    cut_folder(folders, Cut(8, 8))
    first, last = folders / "out" / "0_0_0.png", folders / "out" / "3_8_16.png"
    first.write_bytes(b"kept")
    last.unlink()
    with pytest.raises(InputError, match="not an image"):  # which the sheets show
        cut_folder(folders, Cut(8, 8))
    assert first.read_bytes() == b"kept" and last.exists()
    with pytest.raises(InputError, match=r"out: holds patches of another run \(stride: 8, now 4\); replace them by"):
        cut_folder(folders, Cut(8, 4))
    assert first.read_bytes() == b"kept"
    cut_folder(folders, Cut(8, 8), force=True)
    assert first.read_bytes() != b"kept"
    (folders / "out" / "mine.png").write_bytes(b"")
    cut_folder(folders, Cut(16, 8, validation=0.25), force=True)
    assert [path.name for path in (folders / "out").glob("*.png")] == ["mine.png"]
    assert not (folders / "out" / "labels.csv").exists() and len([*folders.glob("out/*/*_0_0.png")]) == 4
    with pytest.raises(InputError, match=r"train.labels\.csv: written by no run into "):
        cut_folder(folders, Cut(16, 8), "out/train")


def test_classes_are_balanced_the_rarest_first():
    present = np.array([[1, 0, 0]] * 50 + [[1, 1, 0]] * 20 + [[0, 0, 1]] * 3 + [[0, 0, 0]], bool)
    chosen = balanced(present, Cut(8, 8, most=10))
    assert present[chosen].sum(axis=0).tolist() == [10, 10, 3] and len(present) - 1 in chosen
    assert balanced(present, Cut(8, 8)) == [*range(len(present))] and balanced(present[:0], Cut(8, 8, most=1)) == []
    assert chosen != balanced(present, Cut(8, 8, seed=1, most=10))


@pytest.mark.slow
def test_a_sheet_of_each_class_to_look_at(folders, monkeypatch):
    monkeypatch.undo()  # sheets are drawn, and workers cut
    cut_folder(folders, Cut(8, 8, context=2))
    sheets = {path.name: read_image(path)[0].shape[1] for path in (folders / "out" / "sheets").iterdir()}
    assert sheets == {"a.png": 960, "b.png": 960}
