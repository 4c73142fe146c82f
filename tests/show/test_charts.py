"""Charts of confusion matrices and IoU."""

import io

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.evaluate import confusion_matrix, occurring
from hsn_v1.sets import outputs
from hsn_v1.show import charts
from hsn_v1.show.charts import CELL, confusion_figure, iou_figure


def grey(png):
    with Image.open(io.BytesIO(png)) as chart:
        return np.asarray(chart.convert("L")).astype(int)


def test_a_class_occurs_if_it_is_in_the_ground_truth_or_predicted():
    truth, prediction = np.array([[0, 2, 5]]), np.array([[0, 0, 3]])  # the last pixel is unlabelled
    assert occurring(confusion_matrix(truth, prediction, 5)) == [0, 2, 3]


def test_figures_show_only_classes_that_occur(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(outputs, "confusion_figure", lambda _, keep, names, __: shown.append((keep, names)) or b"")
    monkeypatch.setattr(outputs, "iou_figure", lambda ious, codes, *_: shown.append((ious, codes, *_)) or b"")
    before = confusion_matrix(np.array([2, 2, 2, 2]), np.array([2, 2, 3, 3]), len(FUNC))
    after = confusion_matrix(np.array([2, 2, 2, 2]), np.array([2, 2, 2, 0]), len(FUNC))
    outputs.write_confusions(tmp_path, after, FUNC, "CRF")
    assert shown == [([0, 2], ["background", "G.O exocrine gland"]), ([2], ["G.O exocrine gland"])]
    stacks = {"Adjust": np.stack([before, before]), "CRF": np.stack([after, after])}
    outputs.write_ious(tmp_path, stacks, FUNC)
    ious, codes, _, intervals = shown[-1]
    assert intervals["after CRF"][1] == pytest.approx([0.75, 0.75])
    assert np.isnan(intervals["after CRF"][2]).all()  # of a class that is not there then
    assert codes == ["background", "G.O exocrine gland", "G.N endocrine gland"]
    np.testing.assert_allclose([ious["adjusted"], ious["after CRF"]], [[0, 0.5, 0], [0, 0.75, 0]])


def test_a_confusion_matrix_tells_the_pixels_of_true_and_predicted_classes(monkeypatch):
    written = []
    monkeypatch.setattr(charts, "_names", lambda names, _: written.append(names) or Image.new("L", (9, 9)))
    confusion = np.array([[0, 0, 0], [0, 1000, 234], [0, 1, 2], [0, 99, 0]])  # the last row is unlabelled
    confusion_figure(confusion, [1, 2], ("gland", "vessel"), "")
    assert written == [["gland  1,234 px", "vessel  3 px"], ["gland  1,001 px", "vessel  236 px"]]


@pytest.mark.parametrize("classes", [0, 1, 29])
def test_figures_have_room_for_every_class(classes):
    codes = MORPH.codes[:classes]
    confusion = np.eye(classes + 1, classes, dtype=int)
    assert min(grey(confusion_figure(confusion, range(classes), codes, "title")).shape) > classes * CELL
    more = len(grey(iou_figure({"GradCAM": np.ones(classes), "CRF": np.zeros(classes)}, codes, "title")))
    fewer = len(grey(iou_figure({"CRF": np.zeros(classes)}, codes, "title")))
    assert (more > fewer) == (classes > 0)


def test_the_worst_images_come_first(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(outputs, "iou_figure", lambda *drawn, axis: shown.append(drawn) or b"")
    stack = np.array([[[k, 50 - k, 0], [0, 1, 0], [0, 0, 0]] for k in range(50, 0, -1)])
    outputs.write_image_ious(tmp_path, {"CRF": stack}, [f"{k}.png" for k in range(50, 0, -1)], "x")
    ((bars, names, title),) = shown
    assert names == [f"{k}.png" for k in range(1, 41)] and title == "x: mIoU (present) of the 40 worst of 50 images"
    assert bars["after CRF"][0] == pytest.approx((1 / 50 + 1 / 50) / 2)


def test_an_interval_is_drawn_over_its_bar():
    drawn, none, empty = (
        (grey(iou_figure({"CRF": np.array([0.5])}, ["a"], "", intervals)) < 40).sum()
        for intervals in ({"CRF": np.array([[0.3, 0.8]])}, None, {"CRF": np.full((1, 2), np.nan)})
    )
    assert drawn > none == empty


def test_a_cell_is_darker_the_more_of_a_class_went_there():
    matrices = [np.array([[0, 0], [100 - there, there], [0, 0]]) for there in (0, 30, 100)]
    none, some, all_ = ((255 - grey(confusion_figure(matrix, [1], ("G.O",), ""))).sum() for matrix in matrices)
    assert none + 20 * CELL**2 < some < all_ - 20 * CELL**2
