"""Bootstrap intervals, held against SciPy's and against draws of lists of images."""

import numpy as np
import pytest

from hsn_v1.evaluate import mean_iou_present
from hsn_v1.intervals import Estimate, draw_weights, weighted_sums

RNG = np.random.default_rng(3)
CONFUSIONS = RNG.integers(0, 2000, (30, 4, 4)) * RNG.integers(0, 2, (30, 4, 1))  # classes lack in some images
OTHERS = np.maximum(CONFUSIONS + RNG.integers(-300, 300, CONFUSIONS.shape) * (CONFUSIONS > 0), 0)


def miou(confusions, weights):
    return mean_iou_present(weighted_sums(confusions, weights))


@pytest.mark.slow
@pytest.mark.parametrize("confusions", [[CONFUSIONS], [CONFUSIONS, OTHERS]], ids=["one program", "paired"])
def test_intervals_are_scipy_s(confusions):
    from scipy.stats import bootstrap  # which takes a second to load

    def statistic(indices):  # (draws, images)
        values = [mean_iou_present(stack[indices].sum(axis=-3)) for stack in confusions]
        return values[0] - values[1] if len(values) > 1 else values[0]

    found = bootstrap(
        (np.arange(30),),
        lambda indices, axis: statistic(np.asarray(indices).astype(int)),
        n_resamples=5000,
        method="percentile",
        rng=1,
        batch=500,
    ).confidence_interval
    weights = draw_weights(range(30))
    values = [miou(stack, weights) for stack in confusions]
    estimate = Estimate.of(values[0] - values[1] if len(values) > 1 else values[0])
    width = estimate.high - estimate.low
    assert [estimate.low, estimate.high] == pytest.approx([found.low, found.high], abs=0.05 * width)
    assert estimate.value == statistic(np.arange(30)[np.newaxis])[0]


def test_draws_are_lists_of_images_and_groups_are_drawn_whole():
    groups = ["a", "b", "a", "c", "b"]
    weights = draw_weights(groups, draws=200, seed=7)
    assert weights[0].tolist() == [1] * 5
    drawn = np.random.default_rng(7).integers(0, 3, (200, 3))
    images = {0: [0, 2], 1: [1, 4], 2: [3]}
    sums = [sum(CONFUSIONS[i] for group in row for i in images[group]) for row in drawn.tolist()]
    np.testing.assert_array_equal(weighted_sums(CONFUSIONS[:5], weights)[1:], sums)


def test_a_class_that_a_draw_lacks_is_left_out_of_its_interval():
    values = np.array([0.5, np.nan, 0.4, 0.6])
    assert Estimate.of(values).low == pytest.approx(0.405)
    assert str(Estimate.of(np.array([0.5]))) == "0.5000"
    assert str(Estimate.of(np.array([np.nan, np.nan]))) == "-"
