import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.tiles import TileGrid, Window, resize

GLAS = CLASSIFIER_MPP / 0.620


def test_an_adp_patch_is_one_tile():
    grid = TileGrid(224, 224)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    np.testing.assert_array_equal(grid.crop(image), image[np.newaxis])


def test_grid_of_a_glas_image():
    rows, columns = TileGrid(522, 775, GLAS).axes
    assert pytest.approx(1.958525, abs=1e-6) == GLAS
    assert (rows.reduced, columns.reduced) == (267, 396)
    assert (rows.crop_starts, columns.crop_starts) == ([0, 43], [0, 172])
    assert rows.footprint == 439
    assert (rows.stitch_starts, columns.stitch_starts) == ([0, 83], [0, 336])


def test_crop_takes_the_image_apart_in_rows():
    image = np.random.default_rng(0).integers(0, 256, (300, 224, 3), np.uint8)
    tiles = TileGrid(300, 224).crop(image)
    np.testing.assert_array_equal(tiles[0], image[:224])
    np.testing.assert_array_equal(tiles[1], image[76:])


def test_crop_does_not_round():
    image = np.zeros((438, 438, 3), np.uint8)
    image[::2] = 255
    tiles = TileGrid(438, 438, GLAS).crop(image)
    np.testing.assert_array_equal(tiles[0], cv2.resize(image.astype(np.float32), (224, 224)))
    assert np.any(tiles != np.rint(tiles))


def test_a_small_image_is_mirrored_with_its_edge():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    tile = TileGrid(4, 4, tile=8).crop(image)[0]
    assert tile[:, 2, 0].tolist() == [3 * 4 * row for row in (1, 0, 0, 1, 2, 3, 3, 2)]


def test_an_odd_side_may_be_padded_to_two_tiles_one_pixel_apart():
    rows, columns = TileGrid(223, 224).axes
    assert rows.crop_starts == rows.stitch_starts == [0, 1]
    assert columns.crop_starts == [0]


@pytest.mark.parametrize(("side", "count"), [(438, 1), (1756, 5), (2195, 6), (2634, 7)])
def test_sides_at_which_the_published_grids_differ_take_the_cropping_grid(side, count):
    grid = TileGrid(side, 600, GLAS)
    rows, _ = grid.axes
    assert rows.count == count
    assert rows.footprint == 439
    stitched = grid.stitch(lambda _: np.ones((1, 224, 224), np.float32))
    np.testing.assert_array_equal(stitched, np.ones((1, side, 600)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.3, 4))
def test_every_pixel_is_covered(height, width, downsample):
    grid = TileGrid(height, width, downsample, tile=16)
    assert grid.crop(np.zeros((height, width, 3), np.uint8)).shape == (len(grid), 16, 16, 3)
    for axis in grid.axes:
        assert axis.stitch_starts == sorted(axis.stitch_starts)
        assert axis.crop_starts[-1] + 16 == axis.reduced
    stitched = grid.stitch(lambda _: np.ones((2, 16, 16), np.float32))
    np.testing.assert_allclose(stitched, np.ones((2, height, width)), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90))
def test_stitch_undoes_crop(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    grid = TileGrid(height, width, tile=16)
    stitched = grid.stitch(grid.crop(image).transpose(0, 3, 1, 2).__getitem__)
    np.testing.assert_array_equal(stitched.transpose(1, 2, 0), image)


def test_overlaps_are_averaged():
    grid = TileGrid(6, 4, tile=4)
    tiles = np.stack([np.full((1, 4, 4), value, np.float32) for value in (0, 1)])
    assert grid.stitch(tiles.__getitem__)[0, :, 0].tolist() == [0, 0, 0.5, 0.5, 1, 1]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.3, 4), st.data())
def test_a_window_is_stitched_as_the_whole_from_the_tiles_it_touches(height, width, downsample, data):
    grid = TileGrid(height, width, downsample, tile=16)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    tiles, asked = np.random.default_rng(0).random((len(grid), 2, 16, 16), np.float32), []
    window = Window(top, left, bottom - top, right - left)
    part = grid.stitch(lambda number: asked.append(number) or tiles[number], window)
    np.testing.assert_array_equal(part, grid.stitch(tiles.__getitem__)[:, top:bottom, left:right])
    assert asked == sorted(set(asked))


def test_resize_interpolates_between_pixel_centres():
    assert resize(np.array([[[0, 4]]], np.float32), 1, 4).tolist() == [[[0, 1, 3, 4]]]
    assert resize(np.zeros((0, 2, 2), np.float32), 4, 4).shape == (0, 4, 4)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.5, 4), st.integers(1, 16), st.integers(0, 9))
def test_tiles_by_a_stride_cover_every_pixel_and_lie_no_further_apart(height, width, downsample, stride, margin):
    grid = TileGrid(height, width, downsample, 16, stride, margin)
    tiles = grid.crop(np.full((height, width, 3), 7, np.uint8))
    assert tiles.shape == (len(grid), 16, 16, 3)
    for axis in grid.axes:
        assert np.diff([*axis.crop_starts]).max(initial=0) <= stride
        assert axis.crop_starts[-1] + 16 == axis.reduced
    stitched = grid.stitch(lambda number: tiles[number, :, :, 0][np.newaxis])
    np.testing.assert_allclose(stitched, np.full((1, height, width), 7), rtol=1e-3)


def test_what_is_mirrored_around_an_image_is_seen_and_not_stitched():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    grid = TileGrid(20, 30, tile=16, stride=12, margin=4)
    tiles = grid.crop(image)
    np.testing.assert_array_equal(tiles[0, :4, 4:], image[3::-1, :12])
    np.testing.assert_array_equal(tiles[0, 4:, :4], image[:12, 3::-1])
    stitched = grid.stitch(tiles.transpose(0, 3, 1, 2).__getitem__)
    np.testing.assert_allclose(stitched.transpose(1, 2, 0), image, rtol=1e-5)


def test_where_tiles_overlap_by_a_stride_the_nearer_one_counts_more():
    grid = TileGrid(8, 12, tile=8, stride=4)
    stitched = grid.stitch(lambda number: np.full((1, 8, 8), number, np.float32))[0, 4]
    np.testing.assert_allclose(stitched, [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1], atol=1e-6)
    assert TileGrid(8, 12, tile=8).stitch(lambda number: np.full((1, 8, 8), number, np.float32))[0, 4, 5] == 0.5
