"""Pyramids made strip by strip are those that are made of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsn_v1.slide_io.tiling import average, cut, halvings, level_strips


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 12))
def test_a_pyramid_ends_with_the_first_level_that_a_tile_holds(side, tile):
    count = halvings(side, tile)
    assert -(-side // 2**count) <= tile
    assert not count or -(-side // 2 ** (count - 1)) > tile


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 32]), st.integers(1, 5))
def test_levels_are_those_of_the_whole_and_come_from_the_top(height, width, tile, levels):
    labels = np.random.default_rng(height).integers(0, 9, (height, width), np.uint8)
    found = [[] for _ in range(levels)]
    for level, strip in level_strips((labels[top : top + tile] for top in range(0, height, tile)), levels, tile):
        assert all(len(above) == tile for above in found[level])
        found[level].append(strip)
    for level, strips in enumerate(found):
        np.testing.assert_array_equal(np.concatenate(strips), labels[:: 2**level, :: 2**level])


@pytest.mark.parametrize("height", [3, 64, 65, 67, 128, 131, 256])
def test_levels_may_be_averaged_and_leave_out_what_is_left_over(height):
    image = np.random.default_rng(0).integers(0, 256, (height, 90, 3), np.uint8)
    strips = [image[top : top + 64] for top in range(0, height, 64)]
    levels = level_strips(strips, 2, 64, lambda strip: average(strip, 4))
    smaller = np.concatenate([np.empty((0, 22, 3)), *(strip for level, strip in levels if level)])
    squares = image[: height // 4 * 4, :88].reshape(height // 4, 4, 22, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(smaller, squares, atol=0.51)


def test_tiles_are_filled_up():
    strip = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert [tile.tolist() for tile in cut(strip, 2)] == [[[0, 1], [3, 4]], [[2, 0], [5, 0]]]
    assert [tile.tolist() for tile in cut(strip[:1], 2, "edge")] == [[[0, 1], [0, 1]], [[2, 2], [2, 2]]]
    assert [tile.shape for tile in cut(np.zeros((1, 5, 3)), 4)] == [(4, 4, 3)] * 2
