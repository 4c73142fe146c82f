"""Pyramids made strip by strip are those of the whole; grids are held against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import write_map
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hsn_v1.adp import GLAS
from hsn_v1.slide_io.label_maps import read_thumbnail
from hsn_v1.slide_io.tiling import average, cut, halvings, level_strips, nearest, touched
from hsn_v1.tiles import Window

SIDES = st.integers(1, 300) | st.integers(1, 100_000)


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


@settings(deadline=None, max_examples=200)
@given(SIDES, SIDES, st.data())
@example(237, 30, None)  # 237 * (30 / 237) is more than 30
@example(30, 237, None)
def test_the_pixels_that_a_window_touches_are_those_between_its_exact_edges(side, other, data):
    start, stop = 0, side
    if data:
        start = data.draw(st.integers(0, side - 1))
        stop = data.draw(st.integers(start + 1, side))
    found = touched(Window(start, 0, stop - start, 7), Window(0, 0, side, 7), other, 7)
    edges = Fraction(start * other, side), Fraction(stop * other, side)
    assert (found.top, found.bottom) == (math.floor(edges[0]), math.ceil(edges[1]))
    assert 0 <= found.top < found.bottom <= other
    assert (found.left, found.width) == (0, 7)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(-40, 120), st.integers(1, 60))
def test_the_nearest_pixel_is_the_one_under_the_centre(side, other, start, length):
    picture = np.arange(3 * other).reshape(3, other)
    found = nearest(picture, Window(0, start, 3, length), Window(0, 0, 3, side))
    under = [math.floor((column + Fraction(1, 2)) * other / side) for column in range(start, start + length)]
    assert found[0].tolist() == [min(max(place, 0), other - 1) for place in under]
    assert found[2].tolist() == [2 * other + column for column in found[0]]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 90), st.integers(1, 90))
def test_a_label_map_is_read_in_any_size(tmp_path_factory, height, width, tall, wide):
    labels = np.random.default_rng(height).integers(0, 3, (height, width), np.uint8)
    path = tmp_path_factory.mktemp("map") / "a.ome.tif"
    write_map(path, labels, GLAS, tile=16)
    small = read_thumbnail(path, tall, wide)
    assert small.shape == (tall, wide)
    levels = [labels[:: 2**level, :: 2**level] for level in range(halvings(max(height, width), 16) + 1)]
    enough = [level for level in levels if level.shape[0] >= tall and level.shape[1] >= wide]
    target = Window(0, 0, tall, wide)
    np.testing.assert_array_equal(small, nearest((enough or levels)[-1 if enough else 0], target, target))
