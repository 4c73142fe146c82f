import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from skimage.color import rgb_from_hed

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.slide_io.slide import Level, Slide
from hsn_v1.slides.job import SlideGrid
from hsn_v1.slides.tissue import (
    BARE,
    LEFT_OUT,
    SEEN,
    TissueMap,
    find_pen_marks,
    find_tissue,
    paint_blank,
    tiles_with_tissue,
    tissue_notes,
)
from hsn_v1.tiles import Window

RNG = np.random.default_rng(0)
WHERE = np.zeros((100, 100), bool)
WHERE[20:60, 30:80] = True


def stained(shape):
    """Return pixels of H&E: coloured, and with texture."""
    return np.clip(RNG.normal((170, 100, 150), 25, (*shape, 3)), 5, 225).astype(np.uint8)


def picture(glass, deviation=1.0):
    grey = RNG.normal(glass, deviation, (*WHERE.shape, 1))
    return np.where(WHERE[..., np.newaxis], stained(WHERE.shape), np.clip(grey, 4, 252)).astype(np.uint8)


def test_tissue_is_what_is_darker_than_glass_but_for_specks():
    small = np.full((60, 60, 3), 245, np.uint8)
    small[5:20, 5:20] = 200
    small[40:43, 40:43] = 10
    expected = np.zeros((60, 60), bool)
    expected[5:20, 5:20] = True
    np.testing.assert_array_equal(find_tissue(small).tissue, expected)


@pytest.mark.parametrize("glass", [180, 205, 225, 245])
@pytest.mark.parametrize("deviation", [0, 1, 1.5])
def test_glass_of_any_brightness_is_told_from_tissue(glass, deviation):
    found = find_tissue(picture(glass, deviation))
    assert found.glass == pytest.approx(glass, abs=1)
    assert found.threshold == pytest.approx(min(240, glass - 6), abs=1)
    assert (found.tissue == WHERE).mean() > 0.99
    assert found.glass_is_dark == (glass < 240)
    (note, *_), expected = (*tissue_notes(found, 1), ""), f"brightness of {found.glass:.4g}" if glass < 240 else ""
    assert expected in note


def test_where_glass_is_no_class_only_what_was_not_scanned_is_painted_white():
    padded = np.zeros((200, 200, 3), np.uint8)
    padded[50:150, 50:150] = picture(205)
    found = find_tissue(padded)
    assert found.glass_is_dark and (found.blank == ~found.tissue).all()
    found = replace(found, whitens_glass=False)
    assert (found.blank == found.padding).all() and found.padding.any()


def test_glass_with_a_tint_is_glass():
    tinted = picture(215)
    tinted[~WHERE] = (220, 215, 205)
    assert (find_tissue(tinted).tissue == WHERE).mean() > 0.99


@pytest.mark.parametrize("tissue", [stained((120, 120)), np.full((100, 100, 3), 120, np.uint8)], ids=["H&E", "grey"])
def test_tissue_alone_has_no_glass(tissue):
    found = find_tissue(tissue)
    assert found.glass is None and found.threshold == 240
    assert found.tissue.all() and not found.blank.any()


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_large_areas_of_black_and_white_were_not_scanned(padding):
    padded = np.full((200, 200, 3), padding, np.uint8)
    padded[50:150, 50:150] = picture(245)
    found = find_tissue(padded)
    scanned = np.zeros((200, 200), bool)
    scanned[50:150, 50:150] = True
    assert found.padding[:48].all() and not found.padding[53:147, 53:147].any()
    assert not found.tissue[~scanned].any() and found.tissue[70:110, 80:130].mean() > 0.99
    assert "not scanned" in tissue_notes(found, 1)[0]
    assert not find_tissue(np.full((100, 100, 3), padding, np.uint8)).tissue.any()


def test_a_small_black_area_is_tissue():
    inked = picture(245)
    inked[30:40, 40:50] = 0
    found = find_tissue(inked)
    assert not found.padding.any() and found.tissue[30:40, 40:50].all()


@pytest.mark.parametrize(
    ("share", "brightness", "tiles", "expected"),
    [
        (0.001, 245, 1, "only 0.1 % of it is darker than glass"),
        (1.0, 150, 100, "100.0 % of it counts as tissue"),
        (1.0, 150, 1, None),
        (0.5, 245, 100, None),
        (1.0, 20, 100, "most of it is dark, as in fluorescence"),
    ],
)
def test_the_user_is_warned_where_almost_nothing_or_all_is_tissue(share, brightness, tiles, expected):
    tissue = np.zeros(1000, bool)
    tissue[: round(1000 * share)] = True
    notes = tissue_notes(TissueMap(tissue.reshape(10, 100), np.zeros((10, 100), bool), None, brightness), tiles)
    assert [expected in note for note in notes] == ([True] if expected else [])


def test_fluorescence_is_dark():
    dark = RNG.poisson(6, (100, 100, 3)).astype(np.uint8)
    dark[40:60, 40:60, 2] = 200
    (note,) = tissue_notes(find_tissue(dark), 1)
    assert "fluorescence" in note


# --- Pen marks --------------------------------------------------------------------------------------------------------

INKS = {
    "dark": [(20, 20, 25), (35, 35, 45), (60, 55, 60), (10, 10, 10)],
    "green": [(25, 122, 65), (80, 170, 90), (10, 90, 60)],
    "blue": [(40, 60, 160), (30, 40, 150), (60, 140, 200), (20, 20, 110)],
}


def slide_with_tissue():
    image = np.clip(RNG.normal(245, 1, (120, 120, 1)), 0, 252).astype(np.uint8).repeat(3, axis=2)
    image[10:60, 10:60] = stained((50, 50))
    return image


@pytest.mark.slow
@pytest.mark.parametrize(("colour", "ink"), [(colour, ink) for colour, inks in INKS.items() for ink in inks])
@pytest.mark.parametrize("width", [3, 6, 30])
def test_a_stroke_is_named_and_left_out_on_request(colour, ink, width):
    image = slide_with_tissue()
    tissue = find_tissue(image).tissue
    cv2.line(image, (90, 5), (95, 115), ink, width, cv2.LINE_AA)
    kept, left_out = find_tissue(image), find_tissue(image, leave_out_pen=True)
    assert kept.pen.colours == (colour,)
    assert kept.tissue[110:112, 94].all() and not kept.blank.any()
    np.testing.assert_array_equal(left_out.tissue, tissue)
    assert (left_out.blank[kept.tissue & ~tissue] == LEFT_OUT).all() and not left_out.blank[tissue].any()
    notes = [*tissue_notes(kept, 1), *tissue_notes(left_out, 1)]
    assert [note for note in notes if f"flat {colour} areas look like pen marks" in note] == notes and len(notes) == 2
    assert "taken for tissue" in notes[0] and "left out" in notes[1]


def test_strokes_of_several_colours_are_named_together():
    image = slide_with_tissue()
    image[70:110, 5:25], image[70:110, 50:70], image[70:110, 90:110] = (inks[0] for inks in INKS.values())
    assert find_tissue(image).pen.colours == ("dark", "green", "blue")
    assert find_tissue(image).pen.share == pytest.approx(2400 / 4900, abs=0.03)


def test_a_slide_without_marks_has_none_and_no_note():
    found = find_tissue(slide_with_tissue(), leave_out_pen=True)
    assert found.pen is None and not found.blank.any() and tissue_notes(found, 1) == []


def test_what_has_texture_or_is_small_is_no_mark():
    image = slide_with_tissue()
    image[70:110, 10:60] = RNG.integers(0, 70, (40, 50, 1), np.uint8)
    image[80:86, 80:86] = INKS["green"][0]
    assert find_tissue(image).pen is None


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.3))
def test_no_mixture_of_haematoxylin_and_eosin_is_ink(haematoxylin, eosin, remainder):
    flat = 245 * np.exp(-np.array([haematoxylin, eosin, remainder]) @ rgb_from_hed)
    image = np.broadcast_to(flat.astype(np.uint8), (20, 20, 3))
    assert find_pen_marks(image, np.ones((20, 20), bool)).colours == ()


# --- Use --------------------------------------------------------------------------------------------------------------


def test_what_is_blank_is_painted_white_to_the_pixel():
    blank = np.array([[BARE, SEEN]], np.uint8)
    image = np.full((40, 80, 3), 100, np.uint8)
    image[:, :20] = 205
    image[:10, :20] = 3
    frame = Window(0, 0, 40, 80)
    found = paint_blank(image, frame, frame, blank, 199)
    edge = 2  # where the brightness is averaged over both
    assert found[:10, : 20 - edge].all() and found[10 + edge :, : 20 - edge].all() and not found[:, 20:].any()
    assert (image[found] == 255).all() and (image[:, 20:] == 100).all()


def test_what_is_left_out_is_painted_whatever_it_shows():
    image = stained((20, 20))
    frame = Window(0, 0, 20, 20)
    white = paint_blank(image, frame, frame, np.array([[LEFT_OUT, SEEN]], np.uint8), 240)
    assert white[:, :10].all() and not white[:, 10:].any() and (image[white] == 255).all()


def test_glass_that_is_hardly_too_dark_is_told_in_numbers_that_differ():
    (note,) = tissue_notes(TissueMap(np.eye(9, dtype=bool), np.zeros((9, 9), bool), 239 + 2 / 3, 240), 1)
    assert "brightness of 239.7, less than 240: what is at least 233.7 counts as glass" in note


def test_a_window_beyond_the_frame_continues_its_edge():
    blank = np.array([[BARE], [SEEN]], np.uint8)
    image = np.zeros((30, 5, 3), np.uint8)
    found = paint_blank(image, Window(-10, 0, 30, 5), Window(0, 0, 20, 5), blank, 200)
    assert found[:20].all() and not found[20:].any()


def test_a_tile_is_skipped_if_too_little_of_it_is_tissue():
    grid = SlideGrid(80, 80, tile=32)
    mask = np.zeros((10, 10), bool)
    mask[9, 0] = True  # rows 72 to 80, columns 0 to 8 of the slide
    rows, columns = grid.tiles
    assert (rows, columns) == (3, 3)
    assert tiles_with_tissue(grid, mask).tolist() == [2 * columns]
    assert tiles_with_tissue(grid, mask, least=1 / 16).tolist() == [2 * columns]
    assert tiles_with_tissue(grid, mask, least=1 / 15).tolist() == []
    assert tiles_with_tissue(grid, ~mask).tolist() == list(range(rows * columns))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.floats(0.05, 10),
    st.sampled_from([4, 32, 224]),
    st.integers(1, 12),
)
@example((1015, 1015), CLASSIFIER_MPP, 224, 8)
@example((5977, 5977), 0.25, 224, 8)
@example((20420, 21161), 0.25, 224, 8)
def test_tissue_of_a_slide_of_any_size_and_scale_is_found_in_its_tiles(sides, mpp, tile, reduction):
    slide = Slide("memory", mpp, (), (Level(*sides, None),))
    grid = SlideGrid(*slide.size(CLASSIFIER_MPP), tile)
    assume(max(grid.height, grid.width) < 6000 and math.prod(grid.tiles) < 2000)
    shape = slide.size(max(mpp, reduction * CLASSIFIER_MPP))
    every = range(math.prod(grid.tiles))
    assert tiles_with_tissue(grid, np.ones(shape, bool)).tolist() == list(every)
    corner = np.zeros(shape, bool)
    corner[-1, -1] = True
    tiles = [grid.tile_window(number) for number in every]
    reaching = [tile.bottom * shape[0] > (shape[0] - 1) * grid.height for tile in tiles]
    reaching &= np.array([tile.right * shape[1] > (shape[1] - 1) * grid.width for tile in tiles])
    assert tiles_with_tissue(grid, corner, least=1e-12).tolist() == np.flatnonzero(reaching).tolist()
    image = np.zeros((9, 9, 3), np.uint8)
    assert paint_blank(image, Window(grid.height - 3, -2, 9, 9), grid.frame, np.full(shape, BARE, np.uint8), 0).all()
