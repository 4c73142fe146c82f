"""Grids that cover the same field, held against exact fractions, as rounded ones lay a pixel outside."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hsn_v1.adp import GLAS
from hsn_v1.slide_io.label_maps import LabelMapInfo, read_thumbnail, write_label_map
from hsn_v1.slide_io.pixel_grids import nearest, touched
from hsn_v1.slide_io.tiling import halvings
from hsn_v1.tiles import Window

SIDES = st.integers(1, 300) | st.integers(1, 100_000)


@settings(deadline=None, max_examples=300)
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
    path, frame = tmp_path_factory.mktemp("map") / "a.ome.tif", Window(0, 0, height, width)
    write_label_map(path, lambda window: labels[window.within(frame)], LabelMapInfo(height, width, 0.5, GLAS), tile=16)
    small = read_thumbnail(path, tall, wide)
    assert small.shape == (tall, wide)
    levels = [labels[:: 2**level, :: 2**level] for level in range(halvings(max(height, width), 16) + 1)]
    enough = [level for level in levels if level.shape[0] >= tall and level.shape[1] >= wide]
    target = Window(0, 0, tall, wide)
    np.testing.assert_array_equal(small, nearest((enough or levels)[-1 if enough else 0], target, target))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 16), (32, 33), (65, 1)])
def test_stored_levels_are_halved_and_rounded_up(tmp_path, height, width):
    import tifffile

    labels = np.zeros((height, width), np.uint8)
    frame = Window(0, 0, height, width)
    write_label_map(
        tmp_path / "a.ome.tif", lambda w: labels[w.within(frame)], LabelMapInfo(height, width, 0.5, GLAS), tile=16
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        shapes = [level.shape for level in file.series[0].levels]
    assert shapes == [
        (-(-height // 2**level), -(-width // 2**level)) for level in range(halvings(max(height, width), 16) + 1)
    ]
