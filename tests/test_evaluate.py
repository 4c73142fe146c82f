import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsn_v1 import evaluate
from hsn_v1.adp import FUNC, GLAS

# Three classes, the third absent from the ground truth but predicted once; label 3 is unlabelled.
TRUTH = np.array([[0, 0, 0, 1], [1, 1, 3, 3]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 2, 0, 1]])
CONFUSION = np.array([[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]])


def test_confusion_matrix_worked_by_hand():
    np.testing.assert_array_equal(evaluate.confusion_matrix(TRUTH, PREDICTION, 3), CONFUSION)
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(4, 2\)"):
        evaluate.confusion_matrix(TRUTH, PREDICTION.T, 3)


def test_narrow_integers_do_not_overflow():
    truth, prediction = np.full((1, 1), 29, np.uint8), np.full((1, 1), 28, np.uint8)
    assert evaluate.confusion_matrix(truth, prediction, 29)[29, 28] == 1


def test_iou_worked_by_hand():
    # class 0: 2 / (3 true + 3 predicted - 2); class 1: 2 / (3 + 4 - 2); class 2: 0 / 1
    np.testing.assert_allclose(evaluate.class_ious(CONFUSION), [2 / 4, 2 / 5, 0])
    assert evaluate.mean_iou(CONFUSION) == pytest.approx((0.5 + 0.4 + 0) / 3)


def test_mean_over_classes_present_leaves_out_those_only_predicted():
    assert evaluate.mean_iou_present(CONFUSION) == pytest.approx((0.5 + 0.4) / 2)
    assert evaluate.mean_iou_present(np.zeros((4, 4), int)) == 0


def test_iou_of_a_class_that_never_occurs_is_0():
    assert evaluate.class_ious(np.array([[4, 0, 0], [0, 0, 0], [0, 0, 0]])).tolist() == pytest.approx([1, 0])


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


def test_what_is_predicted_as_no_class_is_missed():
    confusion = evaluate.confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 2]), 2)
    np.testing.assert_allclose(evaluate.class_ious(confusion), [1 / 2, 0])
    assert evaluate.occurring(confusion) == [0, 1]


# Tumour, stroma and necrosis, which is absent; 3 is background in a label set that has it, else of no class.
#                 truth 0: 4 found, 1 taken for background; truth 1: 2 found, 2 taken for 0; background: 3 found, 1 as 0
BENCHMARK = np.zeros((5, 5), int)
BENCHMARK[0, [0, 3]] = 4, 1
BENCHMARK[1, [1, 0]] = 2, 2
BENCHMARK[3, [3, 0]] = 3, 1
BENCHMARK[4, [0, 1]] = 5, 6  # unlabelled


@pytest.mark.parametrize("has_background", [True, False])
def test_protocols_worked_by_hand(has_background):
    confusion = BENCHMARK if has_background else BENCHMARK[:4, :4]
    excluded = evaluate.protocol_metrics(confusion, 3, "excluded")
    np.testing.assert_allclose(excluded["IoU"][:3], [4 / 7, 2 / 4, np.nan])  # tumour: 5 true, 6 predicted, 4 both
    np.testing.assert_allclose(excluded["Dice"][:3], [8 / 11, 4 / 6, np.nan])
    assert excluded["mIoU"] == pytest.approx((4 / 7 + 1 / 2) / 2)
    assert excluded["mean Dice"] == pytest.approx((8 / 11 + 2 / 3) / 2)
    assert excluded["fwIoU"] == pytest.approx(5 / 9 * 4 / 7 + 4 / 9 * 1 / 2)
    assert excluded["pixel accuracy"] == pytest.approx(6 / 9)
    background = evaluate.protocol_metrics(confusion, 3, "background")
    np.testing.assert_allclose(background["IoU"][:3], [4 / 8, 2 / 4, np.nan])  # one more pixel is taken for tumour
    assert background["mIoU"] == pytest.approx(1 / 2)
    assert background["fwIoU"] == pytest.approx(1 / 2)
    assert background["pixel accuracy"] == pytest.approx(9 / 13)  # background found counts
    assert np.isnan([*excluded["IoU"][3:], *background["IoU"][3:], *background["Dice"][3:]]).all()


def test_protocols_agree_where_nothing_is_excluded():
    confusion = np.array([[5, 1, 0], [2, 7, 0], [0, 0, 0]])
    excluded, background = (evaluate.protocol_metrics(confusion, 2, protocol) for protocol in evaluate.PROTOCOLS)
    for name, value in excluded.items():
        np.testing.assert_array_equal(value, background[name])
    assert excluded["mIoU"] == pytest.approx(evaluate.mean_iou(confusion))


def test_a_class_only_predicted_counts_as_0_and_a_mean_over_no_class_is_no_number():
    only_predicted = evaluate.protocol_metrics(CONFUSION, 3, "excluded")
    np.testing.assert_allclose(only_predicted["IoU"], [2 / 3, 2 / 4, 0])
    assert only_predicted["mIoU"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    background = np.diag([0, 0, 9, 0])  # the excluded class alone
    for protocol, accuracy in (("excluded", np.nan), ("background", 1)):
        metrics = evaluate.protocol_metrics(background, 2, protocol)
        means = [metrics[name] for name in ("mIoU", "mean Dice", "fwIoU", "pixel accuracy")]
        np.testing.assert_array_equal(means, [np.nan] * 3 + [accuracy])


def test_what_is_excluded_is_background_or_what_is_unlabelled():
    assert evaluate.excluded_index(FUNC) == FUNC.codes.index("Background")
    assert evaluate.excluded_index(GLAS) == len(GLAS)


INDICES = arrays(np.uint8, st.just((2, 24)), elements=st.integers(0, 4))  # four classes, and 4: unlabelled


@pytest.mark.slow
@pytest.mark.parametrize("excluded", [0, 3, 4])
@pytest.mark.parametrize("protocol", evaluate.PROTOCOLS)
@settings(deadline=None, max_examples=20)
@given(pair=INDICES)
def test_metrics_are_scikit_learns(excluded, protocol, pair):
    from sklearn import metrics  # which takes longer to load than most others

    truth, prediction = pair
    confusion = evaluate.confusion_matrix(truth, prediction, 4)
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(truth, prediction, labels=range(5)))
    found = evaluate.protocol_metrics(confusion, excluded, protocol)
    counted = (truth != 4) | ((excluded == 4) & (protocol == "background"))
    if protocol == "excluded":
        counted &= truth != excluded
    truth, prediction = truth[counted], prediction[counted]
    classes = [c for c in range(4) if c != excluded and (c in truth or c in prediction)]
    assert np.flatnonzero(~np.isnan(found["IoU"])).tolist() == classes
    if classes and np.isin(truth, classes).any():
        options = {"labels": classes, "zero_division": 0}
        scores = ("IoU", "mIoU", metrics.jaccard_score), ("Dice", "mean Dice", metrics.f1_score)
        for name, mean, score in scores:
            np.testing.assert_allclose(found[name][classes], score(truth, prediction, average=None, **options))
            assert found[mean] == pytest.approx(score(truth, prediction, average="macro", **options))
        assert found["fwIoU"] == pytest.approx(metrics.jaccard_score(truth, prediction, average="weighted", **options))
    if len(truth):
        assert found["pixel accuracy"] == pytest.approx(metrics.accuracy_score(truth, prediction))
