"""Figures of a classifier: worked by hand."""

import re

import numpy as np
import pytest
from helpers import rows
from PIL import Image

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.training.checkpoints import read_log
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.recipe import Recipe
from hsn_v1.training.training_data import LabelledPatches, TrainingData
from hsn_v1.training.validation_report import (
    class_figure,
    classification_report,
    curve_figure,
    equal_error_thresholds,
    model_card,
    write_report,
)


def test_thresholds_worked_by_hand():
    targets = np.zeros((6, 5))
    scores = np.zeros((6, 5))
    targets[:, 0], scores[:, 0] = [0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.7, 0.6, 0.8, 0.9]
    targets[:, 1], scores[:, 1] = [0, 0, 0, 1, 1, 1], [0.01, 0.02, 0.03, 0.1, 0.2, 0.25]
    targets[:, 2], scores[:, 2] = [0, 0, 0, 1, 1, 1], [0, 0, 0.2, 1, 1, 1]
    targets[:, 3], scores[:, 3] = 1, [0.6, 0.5, 0.7, 0.9, 0.9, 0.9]
    thresholds = equal_error_thresholds(targets, scores)
    assert thresholds[0] == pytest.approx(0.65)  # from .6 to .7, sensitivity and specificity are both 2 / 3
    assert thresholds[1] == pytest.approx(1 / 3)  # the middle of .03 and .1 separates them, but is clamped
    assert thresholds[2] == pytest.approx(0.6)  # not 1, which the next patch may just miss
    assert thresholds[3] == 0.5  # always there
    assert thresholds[4] == 1  # nothing is known of a class that does not occur


ROWS = classification_report(
    ["a", "b", "c"],
    np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]),
    np.array([[0.9, 0.5, 0.5], [0.6, 0.5, 0.5], [0.7, 0.5, 0.5], [0.1, 0.5, 0.5]]),
    np.full(3, 0.65),
)


def test_the_report_leaves_out_classes_that_tell_nothing():
    (row,) = ROWS
    assert row["class"] == "a" and row["patches"] == 2
    assert row["AUC"] == pytest.approx(3 / 4)
    assert (row["sensitivity"], row["specificity"], row["F1"]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("recipe", "chosen", "absent"),
    [
        (Recipe("efficientnet-lite0", frozen=True), "by which the regularisation and", "epoch|batch|pooling|session"),
        (Recipe("vgg16"), "by which the best epoch and", "pooling|width"),
        (Recipe(), "epochs 3 |", "none"),
    ],
)
def test_the_card_lists_settings_that_count(recipe, chosen, absent):
    labels = parse_taxonomy(class_file("m", {"a": None, "b": None}, 1, ([100], [50])), "m.toml")
    patches = LabelledPatches(np.zeros((2, 8, 8, 3), np.uint8), np.eye(2, dtype=np.float32))
    data = TrainingData(labels, "", patches, patches, patches, [])
    card = model_card("m", data, recipe, ROWS, {}, 3)
    assert chosen in card and f"network {recipe.network}, " in card and "seed 0" in card
    assert not re.search(absent, card)


@pytest.mark.slow
def test_files_of_the_report(tmp_path):
    name = r"a$\x$"  # no formula
    log = f"epoch,loss,val_loss,AUC {name}\n0,0.9,0.8,1\n1,0.7,0.6,1\n1,0.6,0.5,1\n2,0.5,0.7,1\n"
    (tmp_path / "log.csv").write_text(log)
    log = read_log(tmp_path / "log.csv")
    assert [row["val_loss"] for row in log] == ["0.8", "0.5", "0.7"]  # an epoch that was logged twice counts once
    write_report(tmp_path, [{**ROWS[0], "class": name}])
    assert [row["AUC"] for row in rows(tmp_path / "classes.csv")] == ["0.75"]
    for name in ("classes.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_figures_show_each_class_and_the_epoch_that_is_kept():
    many = [{**ROWS[0], "class": f"class {i}"} for i in range(40)]
    figure = class_figure(many)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()][39] == "class 39 (2)"
    assert figure.get_size_inches()[1] > 40 * 0.25  # inches for each row
    log = [{"loss": "3", "val_loss": str(loss), "AUC a": "", "rate": "0.1"} for loss in (3, 1, 2)]
    log[2]["AUC a"] = "0.75"  # an earlier version began this training
    axes, areas, *_ = curve_figure(log).axes
    assert [(*line.get_xdata(), *line.get_ydata(), line.get_label()) for line in areas.lines] == [(3, 0.75, "a")]
    kept = next(line for line in axes.lines if line.get_label() == "kept")
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (2, 1)
