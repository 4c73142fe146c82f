"""Ink on the slide is named, and left out on request; what is stained with H&E is never taken for it."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb_from_hed

from hsn_v1.slides.tissue import LEFT_OUT, find_pen_marks, find_tissue, tissue_notes

INKS = {
    "dark": [(20, 20, 25), (35, 35, 45), (60, 55, 60), (10, 10, 10)],
    "green": [(25, 122, 65), (80, 170, 90), (10, 90, 60)],
    "blue": [(40, 60, 160), (30, 40, 150), (60, 140, 200), (20, 20, 110)],
}


def picture():
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(245, 1, (120, 120, 1)), 0, 252).repeat(3, axis=2)
    image[10:60, 10:60] = np.clip(rng.normal((170, 100, 150), 25, (50, 50, 3)), 5, 225)
    return image.astype(np.uint8)


@pytest.mark.parametrize(("colour", "ink"), [(colour, ink) for colour, inks in INKS.items() for ink in inks])
@pytest.mark.parametrize("width", [3, 6, 30])
def test_a_stroke_is_named_and_left_out_on_request(colour, ink, width):
    image = picture()
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
    image = picture()
    image[70:110, 5:25], image[70:110, 50:70], image[70:110, 90:110] = (inks[0] for inks in INKS.values())
    assert find_tissue(image).pen.colours == ("dark", "green", "blue")
    assert find_tissue(image).pen.share == pytest.approx(2400 / 4900, abs=0.03)


def test_a_slide_without_marks_has_none_and_no_note():
    found = find_tissue(picture(), leave_out_pen=True)
    assert found.pen is None and not found.blank.any() and tissue_notes(found, 1) == []


def test_what_has_texture_or_is_small_is_no_mark():
    image, rng = picture(), np.random.default_rng(1)
    image[70:110, 10:60] = rng.integers(0, 70, (40, 50, 1), np.uint8)
    image[80:86, 80:86] = INKS["green"][0]
    assert find_tissue(image).pen is None


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.3))
def test_no_mixture_of_haematoxylin_and_eosin_is_ink(haematoxylin, eosin, remainder):
    flat = 245 * np.exp(-np.array([haematoxylin, eosin, remainder]) @ rgb_from_hed)
    image = np.broadcast_to(flat.astype(np.uint8), (20, 20, 3))
    assert find_pen_marks(image, np.ones((20, 20), bool)).colours == ()
