"""Views: a classifier that looks at a tile in several ways, and at the windows in it."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import TILE, randomise

from hsn_v1.adp import ADP
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.classify import classify
from hsn_v1.commands.options import Parser, add_views, views_of
from hsn_v1.errors import InputError
from hsn_v1.gradcam import grad_cams, window_cams
from hsn_v1.histonet import HistoNet
from hsn_v1.slides.job import SlideGrid
from hsn_v1.training.new_class_file import VIEWS, class_file
from hsn_v1.views import Views

TEXT = class_file("m", {"a": None, "b": None}, 1, ([0], [100]), views=VIEWS)
LABELS = parse_taxonomy(TEXT, "m.toml")


@pytest.fixture(scope="module")
def model(keras):
    """Make a network that ends in average pooling, with maps of a quarter of the tile's side."""
    layers = keras.layers
    stack = [keras.Input((TILE, TILE, 3)), layers.Conv2D(6, 4, strides=4, activation="relu")]
    model = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(2), layers.Activation("sigmoid")])
    randomise(model)
    return model


def looking(model, views, thresholds=(0.5, 0.5)):
    return HistoNet.of(model, np.array(thresholds), replace(LABELS, views=views))


def noise(count, side=TILE):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.float32)


def test_a_new_file_says_the_views():
    assert LABELS.views == Views(384, True, (0.7, 1, 1.4), 80) and LABELS.views.count == 24
    assert LABELS.label_sets["tissue"].variant.adjustment == "paper"
    assert ADP.views == Views() and ADP.views.count == 1
    assert {label_set.variant.adjustment for label_set in ADP.label_sets.values()} == {"released"}


@pytest.mark.parametrize(
    "line", ["stride = 0", "stride = true", "flips = 1", "scales = []", "scales = 0.1", "turn = 8"]
)
def test_other_views_are_refused(line):
    text = TEXT[: TEXT.index("stride")] + line + TEXT[TEXT.index("\n\n# The network's outputs") :]
    with pytest.raises(InputError, match=rf"m\.toml: views\.{line.split()[0]} is"):
        parse_taxonomy(text, "m.toml")


def test_every_turn_is_undone():
    maps = np.arange(2 * 3 * 3 * 2).reshape(2, 3, 3, 2)
    turned = [turn(maps) for turn, _ in Views(flips=True).turns()]
    assert len({each.tobytes() for each in turned}) == 8
    for turn, turn_back in Views(flips=True).turns():
        np.testing.assert_array_equal(turn_back(turn(maps)), maps)


def test_maps_and_scores_are_averaged_over_the_views(model):
    tiles, once, scores, cams = noise(2), looking(model, Views()), [], []
    for turn, turn_back in Views(flips=True).turns():
        score, cam = once(turn(tiles))
        scores.append(score)
        cams.append(turn_back(cam.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
    found_scores, found = looking(model, Views(flips=True))(tiles)
    np.testing.assert_allclose(found_scores, np.mean(scores, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found, np.mean(cams, axis=0), rtol=1e-4, atol=1e-6)


def test_an_even_tile_looks_alike_at_every_scale(model):
    tiles = np.full((1, TILE, TILE, 3), 90, np.float32)
    scores, cams = looking(model, Views())(tiles)
    found_scores, found = looking(model, Views(scales=(0.5, 1, 1.5)))(tiles)
    np.testing.assert_allclose(found_scores, scores, rtol=1e-5)
    assert found.shape == (1, 2, 12, 12)
    np.testing.assert_allclose(found, cams[:, :, :1, :1] * np.ones((1, 1, 12, 12)), rtol=1e-4)


def test_a_network_for_one_size_has_no_other_scales(toy_model):
    labels = replace(ADP, views=Views(scales=(1, 1.5)))
    with pytest.raises(InputError, match="sees tiles at one scale only"):
        HistoNet.of(toy_model, np.zeros(51), labels)
    with pytest.raises(InputError, match="model 'mine' sees tiles at one scale only"):
        HistoNet.of(toy_model, np.zeros(51), ADP, name="mine").with_views(scales=(0.5,))


def test_windows_are_localised_as_tiles_of_their_own():
    logits = np.random.default_rng(0).normal(0, 2, (1, 7, 7, 2)).astype(np.float32)
    thresholds = np.array([0.4, 0.6])
    total = np.zeros((7, 7, 2))
    for y in range(1, 6):
        for x in range(1, 6):
            window = logits[0, y - 1 : y + 2, x - 1 : x + 2]
            score = 1 / (1 + np.exp(-window.mean(axis=(0, 1))))
            cams = grad_cams(window.transpose(2, 0, 1), np.where(score >= thresholds, score, 0), 3)
            total[y - 1 : y + 2, x - 1 : x + 2] += cams.transpose(1, 2, 0) / 9
    inner = np.s_[2:5, 2:5]  # of whose windows none reaches over the edge
    np.testing.assert_allclose(window_cams(logits, thresholds, 3)[0][inner], total[inner], rtol=1e-4, atol=1e-5)


def test_a_class_is_present_where_a_window_has_it(model):
    image = np.zeros((TILE, TILE, 3), np.uint8)
    image[:8, :8] = noise(1, 8)[0]
    strict, lenient = (looking(model, Views(window=8), thresholds) for thresholds in ((2, 2), (0, 0)))
    label_set = LABELS.label_sets["tissue"]
    for classifier, expected in ((strict, False), (lenient, True)):
        ((_, _, tiles),) = classify([(None, image)], classifier)
        assert tiles.present(label_set)[:, label_set.classified].any() == expected
        np.testing.assert_allclose(tiles.scores, tiles.cams.max(axis=(2, 3)))
    assert strict.identity != lenient.identity


def test_windows_need_a_score_for_each_place(toy_model):
    with pytest.raises(InputError, match="`window` needs a network that ends in global average pooling"):
        HistoNet.of(toy_model, np.zeros(51), replace(ADP, views=Views(window=16)))


def test_tiles_lie_a_stride_apart(model):
    image = noise(1, 2 * TILE)[0].astype(np.uint8)
    for views, number in ((Views(), 4), (Views(8), 25)):
        ((_, _, tiles),) = classify([(None, image)], looking(model, views))
        assert len(tiles.scores) == number


def test_options_replace_the_views_of_the_file(model):
    parser = Parser()
    add_views(parser)
    given = ["--no-flips", "--stride", "8", "--scales", "0.5", "1"]
    arguments = parser.parse_args(given)
    classifier = looking(model, Views(None, True, (1.0,), 8)).with_views(**views_of(arguments))
    assert classifier.labels.views == Views(8, False, (0.5, 1.0), 8)
    assert views_of(parser.parse_args([])) == {}
    for wrong in (["--stride", "0"], ["--scales", "0"]):
        with pytest.raises(InputError, match=f"{wrong[0]}: expected .* not '0'"):
            parser.parse_args(wrong)


def test_tiles_of_a_slide_lie_a_stride_apart():
    grid = SlideGrid(64, 64, tile=32, stride=8)
    assert grid.step == 8 and grid.tiles == (5, 5)
    assert SlideGrid(64, 64, tile=32, stride=99).step == 32 and SlideGrid(64, 64, tile=32).step == 24
