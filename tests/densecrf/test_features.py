import numpy as np
import pytest

from hsn_v1.densecrf.features import (
    compute_unary,
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    softmax_to_unary,
    unary_from_labels,
    unary_from_softmax,
)


def test_unary_from_labels():
    energy = unary_from_labels(np.array([[0, 1], [3, 2]]), 3, 0.5)
    expected = [[1 / 3, 0.5, 0.25, 0.25], [1 / 3, 0.25, 0.25, 0.5], [1 / 3, 0.25, 0.5, 0.25]]
    assert energy.dtype == np.float32
    np.testing.assert_allclose(np.exp(-energy), expected, rtol=1e-6)
    np.testing.assert_allclose(np.exp(-unary_from_labels([0, 1], 2, 0.9, zero_unsure=False)), [[0.9, 0.1], [0.1, 0.9]])


def test_unary_from_softmax():
    probabilities = np.array([[1, 0.25], [0, 0.75]], np.float32)
    np.testing.assert_allclose(np.exp(-unary_from_softmax(probabilities)), [[1, 0.25], [1e-5, 0.75]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(-unary_from_softmax(probabilities, scale=0.5)), [[0.75, 0.375], [0.25, 0.625]])
    assert unary_from_softmax(np.full((4, 3, 2), 0.25)).shape == (4, 6)


def test_features_of_a_grid():
    np.testing.assert_array_equal(
        create_pairwise_gaussian((2, 4), (2, 3)), [[0, 0, 0, 0.5, 0.5, 0.5], [0, 0.25, 0.5, 0, 0.25, 0.5]]
    )
    assert create_pairwise_gaussian((1, 1, 1), (2, 3, 4)).shape == (3, 24)


def test_features_with_values():
    image = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    features = create_pairwise_bilateral((1, 1), (2, 4), image, chdim=2)
    np.testing.assert_array_equal(features[:2], create_pairwise_gaussian((1, 1), (2, 3)))
    np.testing.assert_array_equal(features[2:], [[0, 1, 2, 3, 4, 5], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]])
    np.testing.assert_array_equal(
        features, create_pairwise_bilateral((1, 1), (2, 4), image.transpose(2, 0, 1), chdim=0)
    )
    np.testing.assert_array_equal(create_pairwise_bilateral((1,), 2, np.array([4, 6])), [[0, 1], [2, 3]])


def test_older_names_are_of_the_same_functions():
    np.testing.assert_array_equal(compute_unary(np.array([0, 2]), 2), unary_from_labels([0, 2], 2, 0.5))
    probabilities = np.array([[0.25, 1], [0.75, 1e-9]])
    np.testing.assert_allclose(np.exp(-softmax_to_unary(probabilities)), probabilities, rtol=1e-6)
    np.testing.assert_allclose(np.exp(-softmax_to_unary(probabilities, 0.5)), [[0.375, 0.75], [0.625, 0.25]])


@pytest.mark.parametrize("schan", [5, 2.5, (5,), (5, 2), [5, 2, 3], np.float32(7)])
def test_deviations_of_channels_count_as_in_pydensecrf(schan):
    utilities = pytest.importorskip("pydensecrf.utils", reason="pydensecrf is not installed: nothing to compare with")
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    expected = utilities.create_pairwise_bilateral(sdims=(3, 4), schan=schan, img=image, chdim=2)
    np.testing.assert_array_equal(create_pairwise_bilateral((3, 4), schan, image, chdim=2), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unary_from_labels([1], 2, 1), "gt_prob is 1"),
        (lambda: unary_from_labels([1], 1, 0.5), "n_labels is 1"),
        (lambda: unary_from_labels([1, 4], 3, 0.5), "labels go from 1 to 4, which 3 classes do not have"),
        (lambda: unary_from_labels([0, 2], 2, 0.5, zero_unsure=False), "labels go from 0 to 2"),
        (lambda: unary_from_labels([-1, 2], 2, 0.5), "labels go from -1 to 2"),
        (lambda: unary_from_softmax(np.ones((1, 2)), scale=0), "scale is 0"),
        (lambda: create_pairwise_bilateral((1, 1), 1, np.ones((2, 2, 3))), "sdims has 2 numbers, for 3 axes"),
        (lambda: create_pairwise_bilateral((1, 1), (1, 2), np.ones((2, 2))), "schan has 2 numbers, for 1 channels"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
