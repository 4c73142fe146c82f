"""Masks of any program against ground truth, by one ruler."""

import csv
import sys
from unittest import mock

import numpy as np
import pytest
from invented import CLASS_FILE, TISSUE, write_set
from PIL import Image

from hsn_v1.__main__ import main
from hsn_v1.adp import GLAS
from hsn_v1.errors import InputError
from hsn_v1.io.masks import write_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.sets.score import PUBLISHED, score_folder
from hsn_v1.show.figures import colourise
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_label_map

TRUTH = np.array([[0, 0, 1, 3], [0, 1, 1, 3]], np.uint8)
FOUND = np.array([[0, 1, 1, 0], [0, 1, 3, 3]], np.uint8)  # red 2 of 3, green 2 of 3, bare 1 of 2


@pytest.fixture
def folders(tmp_path):
    write_mask(tmp_path / "truth" / "x.png", TRUTH, TISSUE)
    write_picture(tmp_path / "found" / "x.jpg.png", colourise(FOUND, TISSUE))
    return tmp_path / "found", tmp_path / "truth"


def test_worked_by_hand(folders):
    score = score_folder(*folders, TISSUE)
    assert (score.images, score.failures, score.notes) == (1, (), ())
    table = score.table(TISSUE, ["excluded", "background"])
    assert table["IoU", "RED"] == pytest.approx({PUBLISHED: 2 / 4, "excluded": 2 / 3, "background": 2 / 4})
    assert table["IoU", "GREEN"] == pytest.approx({PUBLISHED: 2 / 4, "excluded": 2 / 4, "background": 2 / 4})
    assert table["IoU", "Bare"] == pytest.approx({PUBLISHED: 1 / 3})
    assert table["mIoU", ""] == pytest.approx({PUBLISHED: (1 + 1 / 3) / 4, "excluded": 7 / 12, "background": 1 / 2})
    assert table["pixel accuracy", ""] == pytest.approx({"excluded": 4 / 6, "background": 5 / 8})
    assert np.isnan(table["IoU", "BLUE"]["excluded"])


def test_indices_score_as_colours_do(folders):
    found, truth = folders
    Image.fromarray(FOUND).save(found.parent / "indices.png")
    (found / "x.jpg.png").unlink()
    (found.parent / "indices.png").rename(found / "x.png")
    table = score_folder(found, truth, TISSUE).table(TISSUE, ["excluded"])
    assert table["mIoU", ""]["excluded"] == pytest.approx(7 / 12)


def test_truth_of_another_size_is_resized_if_asked(folders):
    found, truth = folders
    write_mask(truth / "x.png", TRUTH.repeat(3, axis=0).repeat(3, axis=1), TISSUE)
    with pytest.raises(InputError, match=r"x\.png: 12 x 6 px, expected 4 x 2"):
        score_folder(found, truth, TISSUE)
    score = score_folder(found, truth, TISSUE, resize=True)
    assert score.table(TISSUE, ["excluded"])["mIoU", ""]["excluded"] == pytest.approx(7 / 12)
    assert score.pixels.sum() == 9 * 8


def test_what_is_missing_surplus_or_strange_is_said(folders):
    found, truth = folders
    write_mask(truth / "y.png", TRUTH, TISSUE)
    write_picture(found / "z.png", colourise(FOUND, TISSUE))
    write_picture(found / "x.jpg.png", np.where(FOUND[..., None] == 3, 77, colourise(FOUND, TISSUE)).astype(np.uint8))
    score = score_folder(found, truth, TISSUE)
    assert score.images == 1
    assert "y.png" in score.failures[0] and "has no mask of this name" in score.failures[0]
    assert "x.jpg.png: 2 pixels have a colour of no class" in score.notes[0]
    assert "z.png: no ground truth of this name; 1 such masks do not count" in score.notes[1]
    assert score.confusion[:, -1].sum() == 2
    (truth / "x.png").unlink()
    with pytest.raises(InputError, match="no mask of this name"):
        score_folder(found, truth, TISSUE)
    with pytest.raises(InputError, match="nowhere: no such folder; it should hold masks"):
        score_folder(found.parent / "nowhere", truth, TISSUE)


def command(*arguments):
    with mock.patch.object(sys, "argv", ["hsn-v1", *map(str, arguments)]):
        return main()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.toml").write_text(CLASS_FILE)
    return tmp_path


def test_the_command_prints_and_writes_all_values(root, folders, capsys):
    found, truth = folders
    table = root / "score.csv"
    options = ["--prediction", found, "--truth", truth, "--model", "mine", "--root", root, "--quiet"]
    assert command("evaluate", *options, "--csv", table) == 0
    printed = capsys.readouterr().out
    assert "left out of the first means: BLUE bluish tissue" in printed
    assert "0.5833" in printed and "excluded: pixels whose truth is Bare do not count" in printed
    with table.open(newline="") as file:
        values = {(row["protocol"], row["metric"], row["class"]): row["value"] for row in csv.DictReader(file)}
    assert float(values["excluded", "mIoU", ""]) == pytest.approx(7 / 12)
    assert values["excluded", "IoU", "BLUE"] == ""
    assert command("evaluate", *options, "--protocol", "excluded") == 0
    assert "background" not in capsys.readouterr().out.splitlines()[2]


def test_the_command_goes_on_without_what_it_cannot_compare(root, folders, capsys):
    found, truth = folders
    write_mask(truth / "y.png", TRUTH, TISSUE)
    options = ["--prediction", found, "--truth", truth, "--model", "mine", "--root", root, "--quiet"]
    assert command("evaluate", *options) == 1
    assert "failed: " in capsys.readouterr().err
    assert command("evaluate", *options, "--labels", "morph") == 2
    assert "morph: no label set of this classifier; it has tissue" in capsys.readouterr().err
    assert command("evaluate", *options, "--model", "yours") == 2
    assert "yours.json: no such file; put it there, or choose a model that is there: " in capsys.readouterr().err


def test_a_run_scores_as_the_masks_that_it_wrote(tmp_path):
    write_set(tmp_path, ["a.png"], classes=(0, 1, 2, 3))
    score = score_folder(tmp_path / "mask", tmp_path / "mask", TISSUE)
    assert score.table(TISSUE, ["background"])["pixel accuracy", ""]["background"] == 1


def test_label_maps_of_segment_are_scored_at_the_truth_s_size(tmp_path):
    labels = np.zeros((8, 12), np.uint8)
    labels[:, 6:] = 1
    labels[:2] = len(GLAS)  # no tissue
    for name in ("a.png", "b.svs"):
        folder = tmp_path / "out" / name
        read = lambda window: labels[window.top : window.bottom, window.left : window.right]  # noqa: E731
        write_label_map(folder / "glas" / f"{name[0]}.ome.tif", read, LabelMapInfo(8, 12, 1.0, GLAS))
        (folder / "run.json").write_text("{}")
        write_mask(tmp_path / "truth" / f"{name[0]}.png", np.kron(labels % 2, np.ones((2, 2), np.uint8)), GLAS)
    score = score_folder(tmp_path / "out", tmp_path / "truth", GLAS)
    assert (score.images, score.failures) == (2, ())
    assert score.confusion.tolist() == [[288, 0, 192], [0, 288, 0], [0, 0, 0]]
    (note,) = score.notes
    assert "a.ome.tif: 12 x 8 px, brought to the size of its ground truth (1 more file likewise)" in note
    write_mask(tmp_path / "truth" / "b.png", np.zeros((16, 16), np.uint8), GLAS)
    score = score_folder(tmp_path / "out", tmp_path / "truth", GLAS)
    assert score.images == 1
    assert "b.png: 16 x 16 px, expected 12 x 8 as its image has, or the same aspect" in score.failures[0]
