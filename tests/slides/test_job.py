import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hsn_v1.slides.job import SlideGrid
from hsn_v1.tiles import Window


@st.composite
def grids(draw):
    tile = draw(st.sampled_from([4, 8, 20]))
    sides, block = st.integers(1, 90), draw(st.integers(1, 100))
    return SlideGrid(draw(sides), draw(sides), tile, block)


windows = st.builds(Window, st.integers(-30, 90), st.integers(-30, 90), st.integers(1, 60), st.integers(1, 60))


def pixels(window):
    return window.height * window.width


@settings(deadline=None)
@given(grids())
def test_tiles_cover_the_slide_and_none_lies_outside(grid):
    covered = np.zeros((grid.height, grid.width), int)
    for number in range(math.prod(grid.tiles)):
        inside = grid.tile_window(number).overlap(grid.frame)
        assert pixels(inside) > 0
        covered[inside.within(grid.frame)] += 1
    assert covered.min() >= 1


@settings(deadline=None)
@given(grids())
def test_blocks_divide_the_slide(grid):
    covered = np.zeros((grid.height, grid.width), int)
    for number in range(math.prod(grid.blocks)):
        covered[grid.block_window(number).within(grid.frame)] += 1
    assert (covered == 1).all()


@settings(deadline=None)
@given(grids(), windows)
def test_blocks_of_a_window_are_those_that_share_a_pixel_with_it(grid, window):
    window = window.overlap(grid.frame)
    blocks = range(math.prod(grid.blocks))
    if pixels(window):
        assert list(grid.blocks_of(window)) == [n for n in blocks if pixels(grid.block_window(n).overlap(window))]


def test_blocks_are_of_about_one_size_which_is_not_exceeded():
    grid = SlideGrid(1600, 700, block=768)
    assert grid.blocks == (3, 1)
    assert [grid.block_window(number).height for number in range(3)] == [534, 534, 532]
    assert grid.block_window(0).width == 700


@settings(deadline=None)
@given(grids(), windows)
def test_tiles_of_a_window_are_those_that_share_a_pixel_with_it(grid, window):
    tiles = range(math.prod(grid.tiles))
    assert list(grid.tiles_of(window)) == [n for n in tiles if pixels(grid.tile_window(n).overlap(window))]


def test_tiles_overlap_by_a_quarter():
    grid = SlideGrid(500, 224)
    assert grid.tiles == (3, 1)
    assert [grid.tile_window(number).top for number in range(3)] == [0, 168, 336]


def test_windows_lie_within_each_other():
    assert Window(2, 3, 4, 5).grown(1) == Window(1, 2, 6, 7)
    assert Window(2, 3, 4, 5).overlap(Window(4, 0, 9, 4)) == Window(4, 3, 2, 1)
    assert pixels(Window(0, 0, 2, 2).overlap(Window(5, 5, 2, 2))) == 0
    assert Window(2, 3, 4, 5).around([Window(0, 5, 3, 9), Window(3, 4, 1, 1)]) == Window(0, 3, 6, 11)
    assert Window(2, 3, 4, 5).halves() == (Window(2, 3, 4, 2), Window(2, 5, 4, 3))
    assert Window(2, 3, 5, 5).halves() == (Window(2, 3, 2, 5), Window(4, 3, 3, 5))
    assert Window(2, 3, 4, 5).within(Window(1, 1, 10, 10)) == (slice(1, 5), slice(2, 7))
    assert Window(2, 3, 4, 5).relative_to(Window(1, 1, 10, 10)) == Window(1, 2, 4, 5)
