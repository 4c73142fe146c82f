import io

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.evaluate import confusion_matrix, occurring
from hsn_v1.sets import outputs
from hsn_v1.show.figures import CELL, confusion_figure, iou_figure


def size(png):
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        return picture.size


def test_a_class_occurs_if_it_is_in_the_ground_truth_or_predicted():
    truth, prediction = np.array([[0, 2, 5]]), np.array([[0, 0, 3]])  # the last pixel is unlabelled
    assert occurring(confusion_matrix(truth, prediction, 5)) == [0, 2, 3]


def test_figures_show_only_classes_that_occur(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(outputs, "confusion_figure", lambda shares, codes, _: shown.append((shares, codes)) or b"")
    monkeypatch.setattr(outputs, "iou_figure", lambda ious, codes, _: shown.append((ious, codes)) or b"")
    before = confusion_matrix(np.array([2, 2, 2, 2]), np.array([2, 2, 3, 3]), len(FUNC))
    after = confusion_matrix(np.array([2, 2, 2, 2]), np.array([2, 2, 2, 0]), len(FUNC))
    outputs.write_confusions(tmp_path, after, FUNC, "CRF")
    (shares, codes), (fore, fore_codes) = shown
    assert (codes, fore_codes) == (["background", "G.O exocrine gland"], ["G.O exocrine gland"])
    np.testing.assert_array_equal(shares, [[0, 0], [0.25, 0.75]])
    np.testing.assert_array_equal(fore, [[0.75]])
    outputs.write_ious(tmp_path, {"Adjust": before, "CRF": after}, FUNC)
    ious, codes = shown[-1]
    assert codes == ["background", "G.O exocrine gland", "G.N endocrine gland"]
    np.testing.assert_allclose([ious["Adjust"], ious["CRF"]], [[0, 0.5, 0], [0, 0.75, 0]])


@pytest.mark.parametrize("classes", [0, 1, 29])
def test_figures_have_room_for_every_class(classes):
    codes = MORPH.codes[:classes]
    width, height = size(confusion_figure(np.eye(classes), codes, "title"))
    assert min(width, height) > classes * CELL
    _, more = size(iou_figure({"GradCAM": np.ones(classes), "CRF": np.zeros(classes)}, codes, "title"))
    _, fewer = size(iou_figure({"CRF": np.zeros(classes)}, codes, "title"))
    assert (more > fewer) == (classes > 0)


def test_a_cell_is_darker_the_more_of_a_class_went_there():
    brightness = []
    for share in (0, 0.3, 1):
        with Image.open(io.BytesIO(confusion_figure(np.full((1, 1), share), ("G.O",), ""))) as picture:
            brightness.append(np.asarray(picture.convert("L")).sum())
    assert brightness[0] - 20 * CELL**2 > brightness[1] > brightness[2] + 20 * CELL**2
