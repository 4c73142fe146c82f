"""What the classifier learns from: images, patch labels, and nothing that tells where."""

import dataclasses

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture
from hsn_v1.training.recipe import Recipe
from hsn_v1.training.training_data import LabelledPatches, PatchSource, fit_to_tile, read_patches, read_training_data


def test_patches_have_no_masks():
    assert {field.name for field in dataclasses.fields(LabelledPatches)} == {"images", "targets"}


def test_an_image_of_the_tiles_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(fit_to_tile(image, 32), image)
    np.testing.assert_array_equal(fit_to_tile(image, 32, 1.0), image)


def test_smaller_images_are_mirrored():
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    tile = fit_to_tile(image, 4, 1.0)
    np.testing.assert_array_equal(tile[..., 0], image[[0, 0, 1, 1]][:, [0, 1, 2, 2], 0])


def test_the_scale_is_brought_to_the_classifiers():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 200
    np.testing.assert_array_equal(fit_to_tile(image, 10, 0.5), image[::2, ::2])
    assert (fit_to_tile(image, 40, 1.0)[:, [9, 30]] == [[0], [200]]).all()  # mirrored, not enlarged
    assert (fit_to_tile(image, 40)[:, [15, 25]] == [[0], [200]]).all()  # enlarged


def test_larger_images_are_shrunk_whole():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 200
    tile = fit_to_tile(image, 20, 1.0)
    assert (tile[:, :9] == 0).all() and (tile[:, 11:] == 200).all()


@pytest.mark.slow
def test_patches_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    exact = rng.integers(0, 256, (32, 32, 3), np.uint8)
    write_picture(tmp_path / "a.png", exact)
    write_picture(tmp_path / "b.png", np.full((64, 48, 3), 90, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [tmp_path / name for name in ("b.png", "broken.png", "a.png", "none.png")]
    patches, notes = read_patches(paths, np.eye(4, dtype=bool), 32, 1.0, quiet=True)
    np.testing.assert_array_equal(patches.images[1], exact)
    assert (patches.images[0] == 90).all()
    np.testing.assert_array_equal(patches.targets, np.eye(4)[[0, 2]])
    assert "broken.png" in notes[0] and "none.png" in notes[1]
    assert notes[2].startswith("1 patches are larger than a tile of 32 px") and "b.png (48 x 64 px)" in notes[2]
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_patches(paths[3:], np.ones((1, 1)), 32, quiet=True)


@pytest.mark.slow
def test_patches_with_context_are_for_a_network_that_learns_from_it(tmp_path):
    (tmp_path / "context.json").write_text('{"size": 16, "context": 8}')
    source = PatchSource(tmp_path, None, {}, None, 1.0, None, None)
    with pytest.raises(InputError, match="only efficientnet-lite0 learns; give it as `network`, or cut"):
        read_training_data(source, tmp_path / "m.toml", Recipe())


def test_many_failures_are_counted(tmp_path):
    write_picture(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    paths = [tmp_path / "a.png", *(tmp_path / f"{i}.png" for i in range(14))]
    patches, notes = read_patches(paths, np.ones((15, 1)), 8, quiet=True)
    assert len(patches) == 1 and len(notes) == 11 and "4 more" in notes[-1]


def patches_of(targets):
    targets = np.asarray(targets, np.float32)
    return LabelledPatches(np.arange(len(targets)).reshape(-1, 1, 1, 1), targets)


def test_a_split_keeps_every_patch_once():
    patches = patches_of(np.arange(20).reshape(10, 2) % 3 == 0)
    train, validation = patches.split(3, seed=1)
    assert len(train) == 7 and len(validation) == 3
    assert sorted([*train.images.ravel(), *validation.images.ravel()]) == list(range(10))
    np.testing.assert_array_equal(train.targets, patches.targets[train.images.ravel()])
    np.testing.assert_array_equal(patches.split(3, seed=1)[1].images, validation.images)
    assert (patches.split(3, seed=2)[1].images != validation.images).any()


@pytest.mark.parametrize("seed", range(5))
def test_rare_labels_are_in_both_parts_of_a_split(seed):
    targets = np.zeros((100, 3))
    targets[:2, 0], targets[:98, 1], targets[7, 2] = 1, 1, 1
    train, validation = patches_of(targets).split(8, seed)
    assert train.targets[:, 0].sum() == validation.targets[:, 0].sum() == 1
    assert (1 - train.targets[:, 1]).sum() == (1 - validation.targets[:, 1]).sum() == 1
