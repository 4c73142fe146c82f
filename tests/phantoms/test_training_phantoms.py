"""Phantoms for training and tuning: of seeds that are kept for it, and no mask leaves."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from hsn_v1.adp import ADP, LABEL_SETS
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.phantoms import phantom
from hsn_v1.phantoms import training_phantoms as purposes
from hsn_v1.phantoms.phantom import SEEDS


def test_no_seed_is_for_two_purposes():
    ranges = sorted(SEEDS.values(), key=lambda seeds: seeds.start)
    assert set(SEEDS) == {"test", "tuning", "validation", "training"}
    for before, after in pairwise(ranges):
        assert len(before) and len(after) and before.stop <= after.start


@pytest.mark.slow
def test_patches_come_from_the_seeds_of_their_purpose():
    images, targets = purposes.patches("validation", 3, 48, quiet=True)
    for i, seed in enumerate(SEEDS["validation"][:3]):
        again = phantom.patch(seed, size=(48, 48))
        np.testing.assert_array_equal(images[i], again.image)
        assert np.flatnonzero(targets[i]).tolist() == ADP.with_parents(phantom.present(again))


def test_no_mask_enters_training(monkeypatch):
    """Wherever tissue lies, what training gets is the same, as long as the same tissue is there."""
    seed = SEEDS["training"].start + 1
    image, present = purposes._patch(seed, 224)
    real, rng = phantom.patch, np.random.default_rng(0)

    def scrambled(*args, **kwargs):
        one = real(*args, **kwargs)
        elsewhere = {name: rng.permuted(mask.ravel()).reshape(mask.shape) for name, mask in one.labels.items()}
        assert any((elsewhere[name] != mask).any() for name, mask in one.labels.items())
        return dataclasses.replace(one, labels=elsewhere)

    monkeypatch.setattr(phantom, "patch", scrambled)
    again, still_present = purposes._patch(seed, 224)
    np.testing.assert_array_equal(again, image)
    assert still_present == present


def test_the_file_of_classes_is_the_atlas_with_a_caveat():
    labels = parse_taxonomy(purposes.class_file(), "phantoms")
    assert labels.caveat == purposes.CAVEAT
    assert dataclasses.replace(labels, caveat="") == ADP


@pytest.mark.parametrize("name", LABEL_SETS)
def test_tuning_phantoms_are_of_the_tuning_seeds(name, monkeypatch):
    asked = []

    def make(seed):
        asked.append(seed)
        kind = phantom.glas if name == "glas" else phantom.patch
        return kind(seed, size=(24, 24))

    monkeypatch.setitem(purposes.TUNING, name, (make, purposes.TUNING[name][1]))
    pairs, mpp = purposes.tuning_set(LABEL_SETS[name], 2)
    assert asked == list(SEEDS["tuning"][:2])
    assert [(image.shape, truth.shape) for image, truth in pairs] == [((24, 24, 3), (24, 24))] * 2
    assert ADP.mpp / mpp == pytest.approx(1.958525 if name == "glas" else 1, rel=1e-6)
