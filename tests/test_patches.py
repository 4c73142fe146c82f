"""What the classifier learns from: images, patch labels, and nothing that tells where."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from hsn_v1.adp import CLASSIFIER_CODES
from hsn_v1.errors import InputError
from hsn_v1.files.writing import write_picture
from hsn_v1.phantoms import phantom
from hsn_v1.phantoms.phantom import SEEDS
from hsn_v1.phantoms.phantom_set import write_set
from hsn_v1.training import patches as patches_module
from hsn_v1.training import patches as training_set
from hsn_v1.training.patches import LabelledPatches, phantom_patches, read_labels, read_patches


def labels(targets):
    return {code for code, target in zip(CLASSIFIER_CODES, targets, strict=True) if target}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_no_seed_serves_two_purposes():
    ranges = sorted(SEEDS.values(), key=lambda seeds: seeds.start)
    assert set(SEEDS) == {"test", "tuning", "validation", "training"}
    for before, after in pairwise(ranges):
        assert len(before) and len(after) and before.stop <= after.start


def test_phantom_patches_come_from_the_seeds_of_their_purpose():
    made = phantom_patches("validation", 3, 48)
    for i, seed in enumerate(SEEDS["validation"][:3]):
        again = phantom.patch(seed, size=(48, 48))
        np.testing.assert_array_equal(made.images[i], again.image)
        np.testing.assert_array_equal(made.targets[i], patches_module.targets_of(phantom.present(again)))


def test_no_mask_enters_training(monkeypatch):
    """Wherever tissue lies, what training gets is the same, as long as the same tissue is there."""
    assert {field.name for field in dataclasses.fields(LabelledPatches)} == {"images", "targets"}
    seed = SEEDS["training"].start + 1
    made = training_set._phantom_patch(seed, 224)
    assert [part.shape for part in made] == [(224, 224, 3), (51,)]
    real, rng = phantom.patch, np.random.default_rng(0)

    def scrambled(*args, **kwargs):
        one = real(*args, **kwargs)
        elsewhere = {name: rng.permuted(mask.ravel()).reshape(mask.shape) for name, mask in one.labels.items()}
        assert any((elsewhere[name] != mask).any() for name, mask in one.labels.items())
        return dataclasses.replace(one, labels=elsewhere)

    monkeypatch.setattr(phantom, "patch", scrambled)
    for part, again in zip(made, training_set._phantom_patch(seed, 224), strict=True):
        np.testing.assert_array_equal(part, again)


def test_labels_imply_their_parents_also_those_of_undifferentiated_types(tmp_path):
    table = write(
        tmp_path / "t.csv", "Patch Names,E.M.S,E.T.X,G.O,G.X\na.png,1,0,0,0\nb.png,0,1.0,1,0\n\nc.png,0,0,0,1\n"
    )
    names, targets, notes = read_labels(table)
    assert names == ["a.png", "b.png", "c.png"]
    assert [labels(row) for row in targets] == [{"E", "E.M", "E.M.S"}, {"E", "E.T", "G", "G.O"}, {"G"}]
    assert len(notes) == 1 and "E.T.X, G.X" in notes[0] and "parents" in notes[0]


def test_unknown_columns_are_left_out_and_reported(tmp_path):
    _, targets, notes = read_labels(write(tmp_path / "t.csv", "name,E.M.S,E.T.V,who\na.png,0,1,Jane\n"))
    assert labels(targets[0]) == set()
    assert any("'E.T.V'" in note and "do you mean E.T" in note for note in notes)
    assert any("'who'" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column is a class"),
        ("name,x,y\na.png,1,0\n", "no column is a class"),
        ("name,A.W\n", "no rows"),
        ("name,A.W,A.W\na.png,1,0\n", "'A.W' comes twice"),
        ("name,A.W\na.png,2\n", "line 2: '2' in column 'A.W'; expected 0 or 1"),
        ("name,A.W\na.png,\n", "line 2: '' in column"),
        ("name,A.W\na.png,1\na.png,0\n", "line 3: 'a.png' is on line 2"),
        ("name,A.W,M.M\na.png,1\n", "line 2: 1 labels for 2 columns"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_labels(write(tmp_path / "t.csv", text))


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_labels(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00,A.W")
    with pytest.raises(InputError, match=r"binary\.csv: cannot be read"):
        read_labels(tmp_path / "binary.csv")


def test_patches_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    exact, large = rng.integers(0, 256, (32, 32, 3), np.uint8), np.full((64, 64, 3), 90, np.uint8)
    write_picture(tmp_path / "a.png", exact)
    write_picture(tmp_path / "b.png", large)
    patches, notes = read_patches(tmp_path, write(tmp_path / "t.csv", "name,A.W,T\nb.png,0,1\na.png,1,0\n"), 32)
    np.testing.assert_array_equal(patches.images[1], exact)
    assert (patches.images[0] == 90).all() and notes == []
    assert [labels(row) for row in patches.targets] == [{"T"}, {"A", "A.W"}]


def test_missing_and_unfit_images(tmp_path):
    table = write(tmp_path / "t.csv", "name,A.W\na.png,0\nb.png,1\n")
    with pytest.raises(InputError, match="no such folder"):
        read_patches(tmp_path / "no", table, 32)
    with pytest.raises(InputError, match=r"a\.png: no such file, like 2 of the 2 images"):
        read_patches(tmp_path, table, 32)
    write_picture(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    write_picture(tmp_path / "b.png", np.zeros((32, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"b\.png: 40 x 32 px; patches must be square"):
        read_patches(tmp_path, table, 32)


def test_a_split_keeps_every_patch_once():
    patches = LabelledPatches(np.arange(10).reshape(10, 1, 1, 1), np.arange(10).reshape(10, 1))
    train, validation = patches.split(3, seed=1)
    assert len(train) == 7 and len(validation) == 3
    assert sorted([*train.targets.ravel(), *validation.targets.ravel()]) == list(range(10))
    np.testing.assert_array_equal(train.images.ravel(), train.targets.ravel())
    np.testing.assert_array_equal(patches.split(3, seed=1)[1].targets, validation.targets)


def test_a_written_set_can_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("hsn_v1.phantoms.phantom_set.KINDS", {"patch": lambda seed: phantom.patch(seed, size=(32, 32))})
    write_set("patch", 2, 5, tmp_path, "set")
    truth = tmp_path / "gt" / "set"
    patches, _ = read_patches(tmp_path / "img" / "set", truth / "gt_labels.csv", 32)
    made = [phantom.patch(seed, size=(32, 32)) for seed in (5, 6)]
    np.testing.assert_array_equal(patches.images, [one.image for one in made])
    np.testing.assert_array_equal(patches.targets, [patches_module.targets_of(phantom.present(one)) for one in made])
