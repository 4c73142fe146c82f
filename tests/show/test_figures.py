import numpy as np
import pytest

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.hsn_v1 import Segmentation
from hsn_v1.labels import STAGES
from hsn_v1.sets import outputs
from hsn_v1.show.figures import LINE, captioned, continuous_map, legend, overlay, overview, round_length, scale_bar


def test_a_summary_shows_the_stages_in_their_order():
    labels = np.zeros((40, 50), np.uint8)
    maps = np.zeros((len(GLAS), 40, 50), np.float32)
    segmentation = Segmentation(maps, dict.fromkeys(STAGES, labels))
    for truth in (labels, None):
        panels = outputs.summary_panels(np.full((40, 50, 3), 9, np.uint8), truth, segmentation, GLAS)
        assert [title for title, _ in panels] == [
            "image",
            "classes in ground truth",
            "ground truth",
            "classes predicted",
            "adjusted maps",
            "before CRF",
            "segmentation after CRF",
        ]
        assert (np.asarray(panels[2][1]) == 255).all() == (truth is None)


def test_a_dark_class_shows_in_the_continuous_map():
    maps = np.zeros((len(FUNC), 1, 3), np.float32)
    maps[FUNC.codes.index("G.O")] = 0, 0.5, 1
    white, half, full = continuous_map(maps, FUNC)[0]
    np.testing.assert_allclose(white, 255)
    np.testing.assert_allclose(half, (127.5, 127.5, 191.5))
    np.testing.assert_allclose(full, FUNC.colours["G.O"])


def test_lookalikes_are_hatched_over_the_image_and_others_are_not():
    image = np.full((14, 14, 3), 100, np.uint8)
    for code, colours in (("E.M.O", 1), ("S.M.C", 2)):
        shown = overlay(np.full((14, 14), MORPH.codes.index(code), np.uint8), image, MORPH)
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) == colours
    assert {tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()} == {(0, 0, 0), (170, 123, 50)}


def test_a_legend_hatches_the_swatches_of_lookalikes():
    plain, hatched = (np.asarray(legend([MORPH.codes.index(c)], MORPH, 1))[4:12, 2:12] for c in ("E.M.O", "S.M.C"))
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(hatched.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize("width", [1, 2, 3, 50])
def test_the_narrowest_picture_has_a_scale_bar(width):
    bar = scale_bar(width, 0.5)
    assert bar.shape[1:] == (width, 3) and (bar[:, 0] != 255).any()


@pytest.mark.parametrize(("most", "length"), [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (999, 500), (1000, 1000)])
def test_scale_bars_have_round_lengths(most, length):
    assert round_length(most) == length
    assert round_length(most / 1000) == pytest.approx(length / 1000)


@pytest.mark.parametrize(("width", "mpp", "length"), [(900, 9.7, 2000), (224, 1.2143, 50), (300, 1, 100)])
def test_the_bar_is_as_long_as_it_says(width, mpp, length):
    bar = scale_bar(width, mpp)
    assert bar.shape == (LINE, width, 3)
    dark = np.flatnonzero((bar == 20).all(axis=2).sum(axis=0) == 4)
    assert np.ptp(dark[: round(length / mpp)]) + 1 == round(length / mpp) == len(dark[dark < round(length / mpp)])
    assert (bar[LINE // 2, round(length / mpp) : round(length / mpp) + 6] == 255).all()


def test_the_overview_paints_tissue_and_names_the_classes_of_the_whole_map():
    thumbnail = np.full((60, 80, 3), (10, 200, 90), np.uint8)
    labels = np.full((60, 80), 5, np.uint8)
    labels[20:40] = 2
    sheet = overview(thumbnail, labels, FUNC, 10, "a slide")
    assert (sheet == (5, 100, 109)).all(axis=2).sum() == 20 * 80
    assert (sheet == (10, 200, 90)).all(axis=2).sum() == 60 * 80 + 40 * 80
    assert swatches(sheet) == {"G.O"}
    assert swatches(overview(thumbnail, labels, FUNC, 10, "a slide", np.array([0, 7, 7, 0, 0, 7]))) == {"Other", "G.O"}


def swatches(sheet):
    pure = {code: (sheet == colour).all(axis=2).sum() for code, colour in FUNC.colours.items() if code != "Background"}
    return {code for code, pixels in pure.items() if pixels > 100}


def test_the_smallest_overview_is_drawn():
    sheet = overview(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), MORPH, 0.25, "a slide with a long name")
    assert sheet.shape[1] > 200


def test_a_caption_is_under_the_picture_on_as_many_lines_as_it_needs():
    picture = np.full((40, 300, 3), 200, np.uint8)
    sheet = captioned(picture, "segmented by a classifier that knows no real tissue: not a medical result")
    np.testing.assert_array_equal(sheet[:40], picture)
    below = sheet[40:].min(axis=(1, 2)) < 128
    assert np.diff(below.astype(int)).clip(0).sum() >= 2  # it needs two lines at least
    assert captioned(picture, "") is picture
