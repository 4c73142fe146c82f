import numpy as np
import pytest
from invented import TISSUE, ChannelClassifier, draw
from scipy.io import loadmat

from hsn_v1.io.models import read_thresholds
from hsn_v1.tiles import TileGrid
from hsn_v1.training.tune_thresholds import tile_presence, tune_thresholds, write_thresholds


def test_a_class_is_in_the_tiles_of_which_it_covers_a_twentieth():
    truth = np.zeros((32, 64), np.uint8)
    truth[:, :1] = 1  # 1 / 32 of the first tile
    truth[:16, 60:] = 2  # 1 / 16 of the second tile
    truth[16:, 60:] = 3  # background, which the classifier does not score
    present = tile_presence(TileGrid(32, 64, 1, 32), truth, TISSUE, 3)
    assert present.tolist() == [[True, False, False], [True, False, True]]


def test_thresholds_tell_tiles_apart_and_others_are_kept():
    rng = np.random.default_rng(1)
    pairs = [draw(rng, classes=classes) for classes in [(0,), (1,), (0, 1), (3,)]]
    classifier = ChannelClassifier()
    thresholds, kept = tune_thresholds(pairs, classifier, TISSUE, 1.0)
    assert kept == ["BLUE"] and thresholds[2] == classifier.thresholds[2]
    scores, _ = classifier(np.stack([image for image, _ in pairs]).astype(np.float32))
    assert (scores[:, :2] >= thresholds[:2]).tolist() == [[True, False], [False, True], [True, True], [False, False]]


def test_thresholds_are_written_as_published(tmp_path):
    write_thresholds(tmp_path / "m.mat", np.array([0.4, 0.6]))
    assert loadmat(tmp_path / "m.mat")["optimalScoreThresh"].shape == (1, 2)
    assert read_thresholds(tmp_path / "m.mat", 2) == pytest.approx([0.4, 0.6])
