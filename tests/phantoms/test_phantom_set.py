"""Sets of phantoms: files that a run reads back as they were made; and to train and tune, of seeds of their own."""

import dataclasses
from itertools import pairwise

import cv2
import numpy as np
import pytest

from hsn_v1.adp import ADP, LABEL_SETS, MORPH
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.io.images import read_image
from hsn_v1.io.masks import read_mask
from hsn_v1.phantoms import phantom, phantom_set
from hsn_v1.phantoms.phantom import SEEDS


def test_columns_are_the_classes_and_the_undifferentiated_types():
    vague = {code for label_set in LABEL_SETS.values() for code in label_set.unlabelled}
    classes = {code for code in (*MORPH.codes, "G.O", "G.N", "T") if code != "Background"}
    assert set(phantom_set.COLUMNS) == classes | vague and len(phantom_set.COLUMNS) == 37


def test_patches_with_their_ground_truth_and_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_set, "KINDS", {"patch": lambda seed: phantom.patch(seed, size=(40, 48))})
    phantom_set.write_set("patch", 2, 3, tmp_path, "a set")
    truth = tmp_path / "gt" / "a set"
    header, *rows = [line.split(",") for line in (truth / "gt_labels.csv").read_text().splitlines()]
    for seed, row in zip((3, 4), rows, strict=True):
        made, file = phantom.patch(seed, size=(40, 48)), f"phantom_{seed:06d}.png"
        np.testing.assert_array_equal(read_image(tmp_path / "img" / "a set" / file)[0], made.image)
        for name, labels in made.labels.items():
            read = read_mask(truth / name / file, LABEL_SETS[name], (40, 48))
            np.testing.assert_array_equal(read.labels, labels)
            assert not read.notes
        assert row[0] == file
        assert {code for code, cell in zip(header[1:], row[1:], strict=True) if cell == "1"} == set(
            phantom.present(made)
        )


def test_glands_have_a_number_each(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_set, "KINDS", {"glas": lambda seed: phantom.glas(seed, size=(150, 220))})
    phantom_set.write_set("glas", 1, 1, tmp_path, "g")
    made = phantom.glas(1, size=(150, 220))
    numbers = cv2.imread(tmp_path / "gt" / "g" / "glas_multi_gland" / "phantom_000001.bmp", cv2.IMREAD_UNCHANGED)
    pairs = np.unique(np.stack([numbers.ravel(), made.instances.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(made.instances)) == numbers.max() + 1 > 3
    read = read_mask(tmp_path / "gt" / "g" / "glas" / "phantom_000001.png", LABEL_SETS["glas"], (150, 220))
    np.testing.assert_array_equal(read.labels, numbers > 0)


def test_no_seed_is_for_two_purposes():
    ranges = sorted(SEEDS.values(), key=lambda seeds: seeds.start)
    assert set(SEEDS) == {"test", "tuning", "validation", "training"}
    for before, after in pairwise(ranges):
        assert len(before) and len(after) and before.stop <= after.start


@pytest.mark.slow
def test_patches_come_from_the_seeds_of_their_purpose():
    images, targets = phantom_set.patches("validation", 3, 48, quiet=True)
    for i, seed in enumerate(SEEDS["validation"][:3]):
        again = phantom.patch(seed, size=(48, 48))
        np.testing.assert_array_equal(images[i], again.image)
        assert np.flatnonzero(targets[i]).tolist() == ADP.with_parents(phantom.present(again))


def test_no_mask_enters_training(monkeypatch):
    """Wherever tissue lies, what training gets is the same, as long as the same tissue is there."""
    seed = SEEDS["training"].start + 1
    image, present = phantom_set._patch(seed, 128)
    real, rng = phantom.patch, np.random.default_rng(0)

    def scrambled(*args, **kwargs):
        one = real(*args, **kwargs)
        elsewhere = {name: rng.permuted(mask.ravel()).reshape(mask.shape) for name, mask in one.labels.items()}
        assert any((elsewhere[name] != mask).any() for name, mask in one.labels.items())
        return dataclasses.replace(one, labels=elsewhere)

    monkeypatch.setattr(phantom, "patch", scrambled)
    again, still_present = phantom_set._patch(seed, 128)
    np.testing.assert_array_equal(again, image)
    assert still_present == present


def test_the_file_of_classes_is_the_atlas_with_a_caveat():
    labels = parse_taxonomy(phantom_set.class_file(), "phantoms")
    assert labels.caveat == phantom_set.CAVEAT
    assert dataclasses.replace(labels, caveat="") == ADP


@pytest.mark.parametrize("name", LABEL_SETS)
def test_tuning_phantoms_are_of_the_tuning_seeds(name, monkeypatch):
    asked, kind = [], "glas" if name == "glas" else "patch"
    make = phantom_set.KINDS[kind]
    monkeypatch.setitem(phantom_set.KINDS, kind, lambda seed: asked.append(seed) or make(seed, size=(24, 24)))
    pairs, mpp = phantom_set.tuning_set(LABEL_SETS[name], 2)
    assert asked == list(SEEDS["tuning"][:2])
    assert [(image.shape, truth.shape) for image, truth in pairs] == [((24, 24, 3), (24, 24))] * 2
    assert ADP.mpp / mpp == pytest.approx(1.958525 if name == "glas" else 1, rel=1e-6)
