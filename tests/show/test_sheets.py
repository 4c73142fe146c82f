"""Rows of panels, the README's picture, and what they are drawn from."""

import io
import re

import numpy as np
import picture
import pytest
from PIL import Image

from hsn_v1.adp import CLASSIFIER_CODES, FUNC, GLAS, MORPH
from hsn_v1.classify import ClassifiedTiles
from hsn_v1.sets.report import ImageResult, summarise
from hsn_v1.show import sheets
from hsn_v1.show.sheets import Row, Swatch

IMAGE = np.random.default_rng(1).integers(0, 256, (24, 30, 3), np.uint8)


def pixels(png):
    with Image.open(io.BytesIO(png)) as drawn:
        return np.asarray(drawn.convert("RGB"))


def test_swatches_are_of_the_classes_that_occur_in_words():
    labels = np.array([[2, 2], [0, 5]])
    assert sheets.swatches([labels, np.array([[4]])], FUNC) == [
        Swatch("background", (255, 255, 255)),
        Swatch("G.O exocrine gland", (0, 0, 128)),
        Swatch("T transport vessel", (173, 20, 87)),
        Swatch("unlabelled", (0, 0, 0)),
    ]
    assert sheets.swatches([np.array([[MORPH.codes.index("H.E")]])], MORPH)[0].hatching == 1


def test_masks_have_the_published_colours_and_swatches():
    truth = np.full((24, 30), MORPH.codes.index("M.M"), np.uint8)
    mask = np.full((24, 30), MORPH.codes.index("C.D.I"), np.uint8)
    row = sheets.case(IMAGE, truth, {"CRF": mask}, MORPH)
    assert [title for title, _ in row.panels] == ["image", "ground truth", "after CRF"]
    drawn = pixels(sheets.sheet([row]))
    for code in ("M.M", "C.D.I"):
        here = (drawn == MORPH.colours[code]).all(axis=-1)
        assert here.sum() > 0.2 * here.size
        assert here[-40:].any()  # the swatch


def test_a_long_row_goes_on_below():
    row = Row([("a", IMAGE)] * 4, [Swatch("class", (1, 2, 3))], "label")
    once, twice = pixels(sheets.sheet([row])), pixels(sheets.sheet([row], columns=2))
    assert once.shape[1] == twice.shape[1]
    assert twice.shape[0] > 2 * once.shape[0]


def test_names_are_no_formulas():
    row = Row([(r"a$\x$", IMAGE)], [Swatch("$^$", (1, 2, 3))], r"$\y$")
    assert pixels(sheets.sheet([row])).shape[1] == 960


def test_heat_is_brighter_where_the_map_is_higher():
    ramp = np.tile(np.linspace(0, 1, 30, dtype=np.float32), (24, 1))
    grey = sheets.heat(ramp, np.full_like(IMAGE, 100)).mean(axis=(0, 2))
    assert (np.diff(grey) >= -1).all() and grey[-1] - grey[0] > 100


def test_present_scores_are_the_highest_of_the_tiles():
    scores = np.full((2, len(CLASSIFIER_CODES)), 0.1, np.float32)
    gland, vessel = CLASSIFIER_CODES.index("G.O"), CLASSIFIER_CODES.index("T")
    scores[:, gland] = 0.25, 0.375
    scores[:, vessel] = 0.75, 0.125
    tiles = ClassifiedTiles(None, scores, np.full(len(CLASSIFIER_CODES), 0.5), None)
    assert tiles.present_scores(FUNC) == {FUNC.codes.index("T"): 0.75}
    assert tiles.present_scores(GLAS) == {GLAS.codes.index("G.O"): 0.375}  # whatever its score


def test_images_are_ranked_by_the_classes_that_they_have():
    def result(file, right):
        confusion = np.zeros((3, 3), int)
        confusion[1] = 10 - right, right, 0
        return ImageResult(file, (2, 5), {}, {("glas", "CRF"): confusion}, {}, {"glas": np.array([0, 10])}, {}, ())

    report = summarise([result("a.png", 3), result("b.png", 9), result("c.png", 5)], {}, [])
    assert report.ranking("glas") == [
        ("b.png", pytest.approx(0.9)),
        ("c.png", pytest.approx(0.5)),
        ("a.png", pytest.approx(0.3)),
    ]


@pytest.fixture
def toy_sets(monkeypatch):
    sets = {
        "patch": {"input_name": "patches", "htt_mode": "morph"},
        "glas": {"input_name": "glands", "htt_mode": "glas"},
    }
    monkeypatch.setattr(picture, "PARAMS", sets)
    monkeypatch.setattr(picture, "MODELS", {"patch": "toy", "glas": "toy"})


@pytest.mark.slow
def test_the_readme_shows_cases_chosen_by_their_rank(root, toy_sets, monkeypatch):
    drawn = []
    monkeypatch.setattr(sheets, "sheet", lambda rows: drawn.extend(rows) or b"")
    picture.draw(root)
    assert [[title for title, _ in row.panels] for row in drawn] == 4 * [
        ["image", "ground truth", "adjusted", "after CRF"]
    ]
    cases = [re.fullmatch(r"(\w+): rank (\d) of 4\nmIoU (0\.\d\d)", row.label).groups() for row in drawn]
    assert [case[:2] for case in cases] == [("good", "1"), ("typical", "3"), ("failed", "4"), ("typical", "3")]
    mious = [float(miou) for *_, miou in cases[:3]]
    assert mious == sorted(mious, reverse=True)
