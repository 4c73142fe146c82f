import numpy as np
import pytest

from hsn_v1 import evaluate

# Three classes, the third absent from the ground truth but predicted once; label 3 is unlabelled.
TRUTH = np.array([[0, 0, 0, 1], [1, 1, 3, 3]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 2, 0, 1]])
CONFUSION = np.array(
    [
        [2, 1, 0],
        [0, 2, 1],
        [0, 0, 0],
        [1, 1, 0],  # unlabelled
    ]
)


def test_confusion_matrix_worked_by_hand():
    np.testing.assert_array_equal(evaluate.confusion_matrix(TRUTH, PREDICTION, 3), CONFUSION)
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(4, 2\)"):
        evaluate.confusion_matrix(TRUTH, PREDICTION.T, 3)


def test_narrow_integers_do_not_overflow():
    truth, prediction = np.full((1, 1), 29, np.uint8), np.full((1, 1), 28, np.uint8)
    assert evaluate.confusion_matrix(truth, prediction, 29)[29, 28] == 1


def test_iou_worked_by_hand():
    # class 0: 2 / (3 true + 3 predicted - 2); class 1: 2 / (3 + 4 - 2); class 2: 0 / 1
    np.testing.assert_allclose(evaluate.iou(CONFUSION), [2 / 4, 2 / 5, 0])
    assert evaluate.mean_iou(CONFUSION) == pytest.approx((0.5 + 0.4 + 0) / 3)


def test_mean_over_classes_present_leaves_out_those_only_predicted():
    assert evaluate.mean_iou_present(CONFUSION) == pytest.approx((0.5 + 0.4) / 2)
    assert evaluate.mean_iou_present(np.zeros((4, 3), int)) == 0


def test_iou_of_a_class_that_never_occurs_is_0():
    assert evaluate.iou(np.array([[4, 0], [0, 0], [0, 0]])).tolist() == pytest.approx([1, 0])


def test_frequency_weights_worked_by_hand():
    weights = evaluate.frequency_weights(np.array([100, 10, 0]))
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3, 0])  # ln 100 = 2 ln 10
    assert evaluate.frequency_weighted_iou(CONFUSION, weights) == pytest.approx(0.5 / 3 + 0.4 * 2 / 3)


def test_frequency_weights_of_a_single_pixel_or_none_are_finite():
    assert np.isfinite(evaluate.frequency_weights(np.array([1, 50]))).all()
    assert evaluate.frequency_weights(np.zeros(2, int)).tolist() == [0, 0]


def test_foreground_shares_are_of_the_full_row():
    np.testing.assert_allclose(evaluate.row_normalised(CONFUSION, [0, 1, 2])[1], [0, 2 / 3, 1 / 3])
    np.testing.assert_allclose(evaluate.row_normalised(CONFUSION, [0, 1]), [[2 / 3, 1 / 3], [0, 2 / 3]])
