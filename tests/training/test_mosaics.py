"""Mosaics of patches of one label each: what lies where, and patches that are of no use."""

import numpy as np
import pytest

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture, write_table
from hsn_v1.training.mosaics import REGION, SIDE, mosaics
from hsn_v1.training.new_class_file import class_file

LABELS = parse_taxonomy(class_file("m", {"a": None, "b": None, "c": None}, 1, [100], [50]), "m.toml")
TISSUE = LABELS.label_sets["tissue"]


def write_patches(folder, rows, side=50):
    """Write a patch for each row of labels, grey by its label, with a white margin of 5 px."""
    for i, row in enumerate(rows):
        patch = np.full((side, side, 3), 255, np.uint8)
        patch[5:-5, 5:-5] = 50 * np.argmax(row)
        write_picture(folder / f"{i}.png", patch)
    write_table(folder / "labels.csv", [["patch", *"abc"], *([f"{i}.png", *row] for i, row in enumerate(rows))])
    (folder / "context.json").write_text('{"size": 40, "context": 5}')


def test_each_place_of_a_mosaic_shows_the_class_that_its_labels_tell(tmp_path):
    write_patches(tmp_path, [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 1)])
    made = mosaics(tmp_path, LABELS, TISSUE, 3, 0)
    assert len(made) == 3
    for image, labels in made:
        assert image.shape == (*labels.shape, 3) and min(labels.shape) >= SIDE
        np.testing.assert_array_equal(image, 50 * np.repeat(labels[..., np.newaxis], 3, axis=2))  # without margins
        assert set(np.unique(labels)) == {0, 1}
        corners = labels[::REGION, ::REGION]
        np.testing.assert_array_equal(labels, corners.repeat(REGION, 0).repeat(REGION, 1))
    again = mosaics(tmp_path, LABELS, TISSUE, 3, 0)
    assert all((one == other).all() for pair in zip(made, again, strict=True) for one, other in zip(*pair, strict=True))


def test_patches_that_mix_all_classes_make_no_mosaic(tmp_path):
    write_patches(tmp_path, [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
    with pytest.raises(InputError, match="fewer than two classes"):
        mosaics(tmp_path, LABELS, TISSUE, 1, 0)
