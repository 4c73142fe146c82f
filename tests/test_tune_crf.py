"""The search of CRF settings: what it tries, what it keeps, and that a better setting wins."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from hsn_v1.adp import LABEL_SETS
from hsn_v1.densecrf import CRF
from hsn_v1.phantoms import phantom
from hsn_v1.phantoms.phantom import SEEDS
from hsn_v1.training import tune_crf


def test_settings_are_drawn_in_range_and_again_the_same():
    low, high = np.array(list(tune_crf.RANGES.values())).T
    drawn = [tune_crf.values(crf) for crf in tune_crf.draw_settings(50, np.random.default_rng(1))]
    assert (drawn >= low - 0.01).all() and (drawn <= high + 0.01).all()
    assert drawn == [tune_crf.values(crf) for crf in tune_crf.draw_settings(50, np.random.default_rng(1))]
    near = [tune_crf.values(crf) for crf in tune_crf.draw_settings(50, np.random.default_rng(1), CRF())]
    assert np.median(near, axis=0) == pytest.approx(tune_crf.values(CRF()), rel=0.15)


@pytest.mark.parametrize("name", LABEL_SETS)
def test_tuning_phantoms_are_of_the_tuning_seeds(name, monkeypatch):
    asked = []

    def make(seed):
        asked.append(seed)
        kind = phantom.glas if name == "glas" else phantom.patch
        return kind(seed, size=(24, 24))

    monkeypatch.setitem(tune_crf.PHANTOMS, name, (make, tune_crf.PHANTOMS[name][1]))
    pairs, downsample = tune_crf.tuning_phantoms(LABEL_SETS[name], 2)
    assert asked == list(SEEDS["tuning"][:2])
    assert [(image.shape, truth.shape) for image, truth in pairs] == [((24, 24, 3), (24, 24))] * 2
    assert downsample == pytest.approx(1.958525 if name == "glas" else 1, rel=1e-6)


@pytest.mark.slow
def test_the_best_of_all_trials_is_first_and_written_as_published(tmp_path):
    """Two flat halves, whose maps are noise with a slight lean to the truth: smoothing is what helps."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 12)[None].repeat(24, axis=0)
    image = np.uint8(60 + 120 * truth[..., None].repeat(3, axis=2))
    first = np.where(truth == 0, 0.6, 0.4) + rng.normal(0, 0.15, truth.shape)
    maps = np.stack([first, 1 - first]).astype(np.float32).clip(0, 1)
    tried = tune_crf.search([(maps, image, truth)], 7, 0)
    scores = [tune_crf.mean_iou_present(confusion) for _, confusion in tried]
    assert len(tried) == 7 and scores == sorted(scores, reverse=True) and scores[0] > 0.95
    assert CRF() in [crf for crf, _ in tried]
    again = tune_crf.try_settings(maps, image, truth, [tried[0][0]])[0]
    np.testing.assert_array_equal(again, tried[0][1])

    tune_crf.write_results(tmp_path / "m_pcc.npy", tmp_path / "out" / "crf.csv", tried)
    saved = np.load(tmp_path / "m_pcc.npy")
    assert saved.shape == (1, 6) and saved[0, 5] == 5
    assert replace(CRF.from_file(tmp_path / "m_pcc.npy"), iterations=5) == tried[0][0]
    with open(tmp_path / "out" / "crf.csv") as file:
        assert [float(row["mIoU of present classes"]) for row in csv.DictReader(file)] == pytest.approx(
            scores, abs=1e-5
        )
