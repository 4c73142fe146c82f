"""Tuning: the search of CRF settings, which the better ones win, and thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import rows
from invented import TISSUE, ChannelClassifier, draw
from scipy.io import loadmat

from hsn_v1.adp import ADP
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.models import read_thresholds
from hsn_v1.io.writing import write_picture, write_table
from hsn_v1.tiles import TileGrid
from hsn_v1.training import tuning as tune_crf
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.tuning import (
    REGION,
    SIDE,
    TuningImage,
    draw_settings,
    mosaics,
    settings,
    tile_presence,
    tune_thresholds,
    write_thresholds,
)

NEW = parse_taxonomy(class_file("m", {"a": None, "b": None, "c": None}, 1, ([100], [50])), "m.toml")
MADE = NEW.label_sets["tissue"]


def test_settings_are_drawn_in_range_spread_over_it_and_again_the_same():
    low, high = np.array(list(tune_crf.RANGES.values())).T
    drawn = np.array([settings(crf) for crf in draw_settings(50, 1)])
    assert (drawn >= low - 0.01).all() and (drawn <= high + 0.01).all()
    np.testing.assert_array_equal(drawn, [settings(crf) for crf in draw_settings(50, 1)])
    near = [settings(crf) for crf in draw_settings(50, 1, CRF())]
    assert np.median(near, axis=0) == pytest.approx(settings(CRF()), rel=0.15)
    share = np.log([settings(crf) for crf in draw_settings(8, 3)] / low) / np.log(high / low)
    for column in share.T:  # one in each eighth
        np.testing.assert_array_equal(np.sort((column * 8).clip(0, 7.99).astype(int)), range(8))


@pytest.mark.slow
def test_the_best_of_all_trials_is_first_and_written_as_published(tmp_path, capsys):
    """Two flat halves, whose maps are noise with a slight lean to the truth: smoothing is what helps."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 12)[None].repeat(24, axis=0)
    image = np.uint8(60 + 120 * truth[..., None].repeat(3, axis=2))
    first = np.where(truth == 0, 0.6, 0.4) + rng.normal(0, 0.15, truth.shape)
    one = TuningImage(np.stack([first, 1 - first]).astype(np.float32).clip(0, 1), image, truth)
    tried = tune_crf.search([one], 7, 0, quiet=True)
    scores = [tune_crf.mean_iou_present(confusion) for _, confusion in tried]
    assert len(tried) == 7 and scores == sorted(scores, reverse=True) and scores[0] > 0.95
    assert tune_crf.mean_iou_present(tune_crf.confusion_of([one])) < scores[0]
    assert CRF() in [crf for crf, _ in tried]
    np.testing.assert_array_equal(tune_crf.confusion_of([one], tried[0][0]), tried[0][1])
    capsys.readouterr()
    assert len(tune_crf.search([one], 1, 0)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("wide search, 1 setting ") and "100%" in line

    tune_crf.write_crf(tmp_path / "m_pcc.npy", tried[0][0])
    tune_crf.write_trials(tmp_path / "out" / "crf.csv", tried)
    saved = np.load(tmp_path / "m_pcc.npy")
    assert saved.shape == (1, 6) and saved[0, 5] == 5
    assert replace(CRF.from_file(tmp_path / "m_pcc.npy"), iterations=5) == tried[0][0]
    written = [float(row["mIoU of present classes"]) for row in rows(tmp_path / "out" / "crf.csv")]
    assert written == pytest.approx(scores, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_trials_of_an_interrupted_search_are_kept_for_the_same_maps(tmp_path, monkeypatch, damaged):
    truth = np.repeat([0, 1], 4)[None].repeat(8, axis=0)
    one = TuningImage(np.stack([1 - truth, truth]).astype(np.float32), np.zeros((8, 8, 3), np.uint8), truth)
    whole = tune_crf.search([one], 6, 0, quiet=True)
    done, most, real = [], [4], tune_crf.confusion_of

    def interrupted(tuning, crf):
        if len(done) == most[0]:
            raise KeyboardInterrupt
        done.append(crf)
        return real(tuning, crf)

    monkeypatch.setattr(tune_crf, "available_cores", lambda: 1)
    monkeypatch.setattr(tune_crf, "confusion_of", interrupted)
    record = tmp_path / "crf.json"
    with pytest.raises(KeyboardInterrupt):
        tune_crf.search([one], 6, 0, True, record)
    if damaged:
        record.write_text(record.read_text()[:-9])
    most[0] = 99
    again = tune_crf.search([one], 6, 0, True, record)
    assert len(done) == (4 + 6 if damaged else 6)
    assert [(crf, confusion.tolist()) for crf, confusion in again] == [(c, m.tolist()) for c, m in whole]
    tune_crf.search([replace(one, maps=one.maps / 2)], 1, 0, True, record)
    assert len(done) == (4 + 6 if damaged else 6) + 1


def test_maps_are_those_before_the_crf(toy_histonet):
    image = np.random.default_rng(0).integers(0, 256, (40, 33, 3), np.uint8)
    truth = np.zeros((40, 33), np.uint8)
    (one,) = tune_crf.adjusted([(image, truth)], toy_histonet, ADP.label_sets["morph"], 1.0)
    assert one.maps.shape == (29, 40, 33) and one.image is image and one.truth is truth


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


def write_patches(folder, presence, side=50):
    """Write a patch for each row of labels, grey by its label, with a white margin of 5 px."""
    for i, row in enumerate(presence):
        patch = np.full((side, side, 3), 255, np.uint8)
        patch[5:-5, 5:-5] = 50 * np.argmax(row)
        write_picture(folder / f"{i}.png", patch)
    write_table(folder / "labels.csv", [["patch", *"abc"], *([f"{i}.png", *row] for i, row in enumerate(presence))])
    (folder / "context.json").write_text('{"size": 40, "context": 5}')


def test_each_place_of_a_mosaic_shows_the_class_that_its_labels_tell(tmp_path):
    write_patches(tmp_path, [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 1)])
    made = mosaics(tmp_path, NEW, MADE, 3, 0)
    assert len(made) == 3
    for image, labels in made:
        assert image.shape == (*labels.shape, 3) and min(labels.shape) >= SIDE
        np.testing.assert_array_equal(image, 50 * np.repeat(labels[..., np.newaxis], 3, axis=2))  # without margins
        assert set(np.unique(labels)) == {0, 1}
        corners = labels[::REGION, ::REGION]
        np.testing.assert_array_equal(labels, corners.repeat(REGION, 0).repeat(REGION, 1))
    again = mosaics(tmp_path, NEW, MADE, 3, 0)
    assert all((one == other).all() for pair in zip(made, again, strict=True) for one, other in zip(*pair, strict=True))


def test_patches_that_mix_all_classes_make_no_mosaic(tmp_path):
    write_patches(tmp_path, [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
    with pytest.raises(InputError, match="fewer than two classes"):
        mosaics(tmp_path, NEW, MADE, 1, 0)
