from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsn_v1.adjust import background_map, subtract, subtract_classes, unsubtracted_maps
from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.hsn_v1 import winners
from hsn_v1.labels import LabelSet

MAPS = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2), st.just(2)), elements=st.floats(0, 1, width=16))


def pixel(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def adjust(cams, image, label_set, *given):
    return subtract(unsubtracted_maps(cams, image, label_set, *given), label_set)


def grey(value, shape=(9, 9)):
    return np.full((*shape, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("before", "after"),
    [((0.9, 0.8, 0.1), (0.1, 0.7, 0)), ((0, 0, 0.5), (0, 0, 1)), ((0.5, 0, 0), (0.5, 0, 0)), ((0.3,), (0.3,))],
)
def test_subtraction_worked_by_hand(before, after):
    np.testing.assert_allclose(subtract_classes(pixel(*before)).ravel(), after, atol=1e-7)


def test_a_kept_class_takes_part_but_stays():
    # .9 - .8 = .1, then .8 - max(.1, .2) = .6
    np.testing.assert_allclose(subtract_classes(pixel(0.2, 0.9, 0.8), keep=0).ravel(), (0.2, 0.1, 0.6), atol=1e-7)


@given(MAPS, st.booleans(), st.integers(0, 255))
def test_subtraction_is_the_released_loop(maps, keep_first, silent):
    maps[[c for c in range(len(maps)) if silent >> c & 1]] = 0
    expected = maps.copy()
    for c in range(int(keep_first), len(maps)):
        others = np.delete(expected, c, axis=0)
        expected[c] -= others.max(axis=0, initial=-np.inf) if len(others) else 0
    before = maps.copy()
    np.testing.assert_array_equal(subtract_classes(maps, 0 if keep_first else None), expected.clip(0, 1))
    np.testing.assert_array_equal(maps, before)


def test_background_is_three_quarters_on_white_and_half_of_that_at_240():
    np.testing.assert_allclose(background_map(grey(255)), 0.75, atol=1e-6)
    np.testing.assert_allclose(background_map(grey(240)), 0.375, atol=1e-6)
    np.testing.assert_allclose(background_map(grey(0)), 0)


def test_background_is_smoothed():
    image = grey(0, (41, 41))
    image[:, 20:] = 255
    smooth = background_map(image)
    assert smooth[20, 19] == pytest.approx(0.75 - smooth[20, 20], abs=1e-6)
    assert 0.2 < smooth[20, 19] < 0.375


def test_background_gives_way_to_adipose():
    cams = np.zeros((len(MORPH), 9, 9), np.float32)
    fat = MORPH.codes.index("A.W")
    cams[fat] = 0.5
    maps = adjust(cams, grey(255), MORPH)
    # Background .75 - .5 = .25, then minus the adipose .5; adipose .5 - max(0, -.25) = .5
    np.testing.assert_allclose(maps[0], 0)
    np.testing.assert_allclose(maps[fat], 0.5, atol=1e-6)


def test_other_tissue_is_what_no_map_claims():
    cams = np.zeros((len(FUNC), 9, 9), np.float32)
    cams[2] = 0.6
    nothing = np.zeros((3, 9, 9), np.float32)
    maps = adjust(cams, grey(0), FUNC, nothing)
    np.testing.assert_allclose(maps[1], 0.05 * 0.4, atol=1e-6)
    np.testing.assert_allclose(maps[2], 0.6 - 0.02, atol=1e-6)


def test_lent_adipose_counts_as_other_tissue():
    lent = np.zeros((3, 9, 9), np.float32)
    lent[1] = 0.3
    maps = adjust(np.zeros((len(FUNC), 9, 9), np.float32), grey(0), FUNC, lent)
    np.testing.assert_allclose(maps[1], 0.3, atol=1e-6)


def test_glands_have_no_background():
    cams = np.zeros((len(GLAS), 9, 9), np.float32)
    maps = adjust(cams, grey(255), GLAS)
    np.testing.assert_allclose(maps[0], 0.05)
    np.testing.assert_allclose(maps[1], 0)


@pytest.mark.parametrize("label_set", [MORPH, FUNC, GLAS], ids=lambda label_set: label_set.name)
def test_arguments_stay_as_they_are(label_set):
    rng = np.random.default_rng(0)
    cams = rng.random((len(label_set), 9, 9), np.float32)
    lent = rng.random((3, 9, 9), np.float32)
    image = rng.integers(0, 256, (9, 9, 3), np.uint8)
    before = cams.copy(), image.copy(), lent.copy()
    maps = adjust(cams, image, label_set, lent)
    for array, copy in zip((cams, image, lent), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() <= maps.max() <= 1


def test_grey_above_200_is_background_but_for_small_spots():
    image = grey(200, (40, 40))
    image[:10, :5] = 201  # 50 px
    image[20:27, 20:27] = 255  # 49 px
    image[30:, 30:] = (255, 190, 190)  # luma 209, though only red is bright
    expected = np.zeros((40, 40), np.float32)
    expected[:10, :5] = expected[30:, 30:] = 1
    np.testing.assert_array_equal(background_map(image, "grey above 200"), expected)
    assert not background_map(grey(200), "grey above 200").any()


def test_a_label_set_finds_background_by_its_rule():
    label_set = LabelSet("tissue", {"T": (1, 0, 0), "B": (2, 0, 0)}, {"T": 0}, background="B")
    cams = np.stack([np.full((9, 9), 0.4, np.float32), np.zeros((9, 9), np.float32)])
    for rule, expected in (("brightness", 0), ("grey above 200", 1)):
        by_rule = replace(label_set, background_rule=rule)
        assert winners(adjust(cams, grey(220), by_rule))[4, 4] == expected
