"""Which classes are in a patch: shares of a label map, and points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsn_v1.tiles import Window
from hsn_v1.training import labelled_images
from hsn_v1.training.labelled_images import Cut, LabelMap, label_patches, patch_starts


def places(truth, classes, cut, points=(), centres=()):
    """Return what is in the patches of a label map."""
    read = LabelMap(
        lambda window: truth[window.within(Window(0, 0, *truth.shape))],
        *truth.shape,
        classes,
        np.reshape(np.array(points, int), (-1, 3)),
    )
    return {place: present.tolist() for place, present in label_patches(read, cut, centres).items()}


@pytest.mark.parametrize(
    ("length", "size", "stride", "starts"),
    [(10, 4, 4, [0, 4, 6]), (12, 4, 4, [0, 4, 8]), (4, 4, 1, [0]), (3, 4, 4, []), (9, 4, 2, [0, 2, 4, 5])],
)
def test_patches_cover_an_axis(length, size, stride, starts):
    assert patch_starts(length, size, stride) == starts


def test_a_class_is_in_a_patch_from_its_share_on():
    truth = np.zeros((10, 30), np.uint8)
    truth[0, 0:5] = 1  # 5 of 100 px: exactly the share
    truth[0, 10:14] = 1  # 4
    truth[:, 20:] = 2  # unlabelled
    truth[:, 25:] = 1
    truth[0, 25] = 2  # 51 of 100 px unlabelled
    assert places(truth, 2, Cut(10, 10)) == {(0, 0): [True, True], (0, 10): [True, False]}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_labels_are_those_of_each_patch_by_itself(data):
    height, width, size, stride = (data.draw(st.integers(1, most)) for most in (40, 40, 12, 12))
    truth = data.draw(arrays(np.uint8, (height, width), elements=st.integers(0, 2), fill=st.integers(0, 2)))
    share, block = data.draw(st.floats(0.01, 1)), data.draw(st.integers(1, 30))
    expected = {}
    for y in patch_starts(height, size, stride):
        for x in patch_starts(width, size, stride):
            patch = truth[y : y + size, x : x + size]
            present = [bool((patch == c).mean() >= share) for c in range(2)]
            if any(present) and (patch == 2).mean() <= 0.5:
                expected[y, x] = present
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(labelled_images, "BLOCK", block)
        assert places(truth, 2, Cut(size, stride, share)) == expected


def test_a_patch_around_each_point_and_the_points_in_a_patch():
    truth = np.full((20, 40), 2, np.uint8)
    truth[:, :10] = 0
    found = places(truth, 2, Cut(10, 10), [(3, 4, 1), (12, 38, 1)], [(15, 5), (15, 20)])
    assert found == {
        (0, 0): [True, True],  # of the grid, and the first point's, moved inside
        (10, 0): [True, False],
        (7, 30): [False, True],  # the second point's, unlabelled else
    }
    assert places(truth, 2, Cut(64, 10), [(3, 4, 1)]) == {}
