"""Written sets of phantoms: files that a run reads back as they were made."""

import cv2
import numpy as np

from hsn_v1.adp import LABEL_SETS, MORPH
from hsn_v1.io.images import read_image
from hsn_v1.io.masks import read_mask
from hsn_v1.phantoms import phantom, phantom_set


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
