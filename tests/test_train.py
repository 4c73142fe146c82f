"""Training: its schedule, loss and thresholds worked by hand, and a toy network trained from end to end."""

import csv
import json
import sys

import numpy as np
import pytest

from hsn_v1 import __main__ as commands
from hsn_v1 import train
from hsn_v1.adp import CLASSIFIER_CODES
from hsn_v1.errors import InputError
from hsn_v1.histonet import load_histonet
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.phantom_set import COLUMNS, write_set
from hsn_v1.train import Recipe
from hsn_v1.training_set import LabelledPatches

CLASSES = len(CLASSIFIER_CODES)
TOY = Recipe(width=0.03, tile=32, batch=4, half_cycle=1)


@pytest.fixture
def patches():
    rng = np.random.default_rng(0)
    targets = np.zeros((12, CLASSES), np.float32)
    targets[::2, 0] = targets[::3, 50] = 1
    images = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
    images[::2] //= 2
    return LabelledPatches(images, targets)


def test_the_learning_rate_is_triangular_and_halves_its_amplitude():
    recipe = Recipe(low=0.001, high=0.021, half_cycle=5, session=20)
    expected = {0: 0.001, 2.5: 0.011, 5: 0.021, 7.5: 0.011, 10: 0.001, 15: 0.021, 20: 0.001, 25: 0.011, 45: 0.006}
    rates = [train.cyclical_learning_rate(epoch, recipe) for epoch in expected]
    assert rates == pytest.approx(list(expected.values()))


def test_class_weights_worked_by_hand():
    targets = np.zeros((1000, 4))
    targets[:500, 0] = targets[:250, 1] = targets[:1, 2] = 1  # frequencies 1/2, 1/4, 1/1000 (counts as 1/100), none
    np.testing.assert_allclose(train.class_weights(targets), np.array([2, 4, 100, 2]) / 27)


def test_the_loss_worked_by_hand(keras):
    loss = train.weighted_cross_entropy(np.float32([1, 3]))(np.float32([[1, 0]]), np.float32([[0.25, 0.5]]))
    assert np.asarray(loss) == pytest.approx([(np.log(4) + 3 * np.log(2)) / 2], rel=1e-5)


def test_thresholds_worked_by_hand():
    targets = np.array([[0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]])
    scores = np.array([[0.1, 0.2, 0.6, 0.1], [0.4, 0.3, 0.5, 0.1], [0.5, 0.3, 0.7, 0.1], *([[0.6, 0.4, 0.9, 0.2]] * 1)])
    scores = np.vstack([scores, [0.7, 0.9, 0.8, 0.2], [0.9, 0.9, 0.8, 0.3]])
    # class 0: at 0.6, 2 of 3 are found and 2 of 3 rejected; 1: absent; 2: always there; 3: parted at 0.2, below 1/3
    np.testing.assert_allclose(train.equal_error_thresholds(targets, scores), [0.6, 1, 0.5, 1 / 3])
    row, fourth = train.classification_report(targets, scores, np.array([0.6, 1, 0.5, 1 / 3]))
    assert row["class"] == "E" and row["patches"] == 3 and fourth["AUC"] == 1
    assert row["AUC"] == pytest.approx(8 / 9)
    assert row["sensitivity"] == row["specificity"] == row["F1"] == pytest.approx(2 / 3)
    assert fourth["sensitivity"] == 0 and fourth["F1"] == 0


def test_histonet_has_the_published_size_and_order(keras):
    model = train.build_histonet()
    assert model.count_params() == 1_753_203
    assert model.output_shape == (None, CLASSES)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "Activation", "BatchNormalization"]
    assert kinds[:8] == [*block, "Dropout", *block, "MaxPooling2D"]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.3, 0.4, 0.4, 0.4]
    assert "Dropout" not in [type(layer).__name__ for layer in train.build_histonet(32, 0.1, 0).layers]


def test_augmentation_keeps_the_range_and_changes_every_image(keras, patches):
    images = np.repeat(patches.images[1:2], 4, axis=0)
    augmented = np.asarray(train.augmentation(TOY)(images))
    assert augmented.shape == images.shape and augmented.min() >= 0 and augmented.max() <= 255
    differences = [np.abs(a - b).mean() for i, a in enumerate(augmented) for b in augmented[:i]]
    assert min(differences) > 5


def test_colour_jitter_leaves_shapes_alone(keras):
    """A picture of one colour stays one, and keeps that colour within the jitter."""
    images = np.full((8, 32, 32, 3), (200, 120, 160), np.uint8)
    augmented = np.asarray(train.augmentation(TOY)(images))
    assert np.ptp(augmented, axis=(1, 2)).max() < 0.01
    changes = augmented[:, 0, 0] - images[0, 0, 0]
    assert 1 < np.abs(changes).max() < 60


def test_validation_batches_are_the_patches_in_order(keras, patches):
    images, targets = map(
        np.concatenate, zip(*train.batches(patches, TOY, train=False).as_numpy_iterator(), strict=True)
    )
    np.testing.assert_allclose(images * train.STD + train.MEAN, patches.images, atol=1e-3)
    np.testing.assert_array_equal(targets, patches.targets)


def test_an_interrupted_training_goes_on_where_it_was(keras, patches, tmp_path, monkeypatch):
    train.fit(patches, patches, TOY, 2, tmp_path)
    steps = 3
    seen = []

    def watched(model, *args, **kwargs):
        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(
                (epoch, int(model.optimizer.iterations), model.get_weights())
            )
        )
        kwargs["callbacks"].append(callback)
        return real(model, *args, **kwargs)

    real = keras.Sequential.fit
    monkeypatch.setattr(keras.Sequential, "fit", watched)

    def killed(epoch, recipe):
        if epoch >= 3 + 1 / steps:
            raise KeyboardInterrupt  # in the middle of the fourth epoch
        return 0.001

    with monkeypatch.context() as patch:
        patch.setattr(train, "cyclical_learning_rate", killed)
        with pytest.raises(KeyboardInterrupt):
            train.fit(patches, patches, TOY, 5, tmp_path)
    train.fit(patches, patches, TOY, 5, tmp_path)
    assert [(epoch, step) for epoch, step, _ in seen] == [(2, 6), (3, 9), (3, 9), (4, 12)]
    for before, after in zip(seen[1][2], seen[2][2], strict=True):
        np.testing.assert_array_equal(before, after)
    log = train.read_log(tmp_path / "log.csv")
    assert [row["epoch"] for row in log] == ["0", "1", "2", "3", "4"]


def test_another_recipe_does_not_go_on(keras, patches, tmp_path):
    train.fit(patches, patches, TOY, 1, tmp_path)
    with pytest.raises(InputError, match=r"holds a training with width 0\.03, not 0\.04"):
        train.fit(patches, patches, Recipe(width=0.04, tile=32, batch=4, half_cycle=1), 1, tmp_path)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["hsn_v1", *map(str, arguments)])
    return commands.main()


def test_from_a_table_to_a_segmentation(keras, tmp_path, monkeypatch, capsys):
    """Train in bfloat16 on a folder of patches; the model is saved in float32, loads and segments."""
    write_set("patch", 4, 0, tmp_path, "set")
    images, table = tmp_path / "img" / "set", tmp_path / "gt" / "set" / "gt_labels.csv"
    options = ("--images", images, "--labels", table, "--data", tmp_path / "data", "--out", tmp_path / "out")
    small = ("--width", 0.03, "--bfloat16", "--epochs", 1, "--batch", 2)
    assert run(monkeypatch, "train", "--name", "toy", *options, *small) == 0
    assert "no output of their own" in capsys.readouterr().err
    assert "bfloat16" not in (tmp_path / "data" / "toy.json").read_text()
    for name in ("log.csv", "classes.csv", "classes.png", "curves.png", "recipe.json"):
        assert (tmp_path / "out" / name).stat().st_size
    histonet = load_histonet(tmp_path / "data", "toy")
    known = {CLASSIFIER_CODES.index(code) for code in COLUMNS if code in CLASSIFIER_CODES}
    assert histonet.thresholds.min() >= 1 / 3 and histonet.thresholds[sorted(known)].max() <= 1
    made = train.phantom_patches("validation", 1).images[0]
    from hsn_v1.adp import MORPH

    assert segment_image(made, histonet, [MORPH], {})["morph"].masks["Adjust"].shape == (224, 224)


def test_phantoms_are_trained_on_in_small_and_judged_in_full(keras, tmp_path, monkeypatch):
    small = ("--width", 0.03, "--tile", 32, "--epochs", 1, "--patches", 8, "--validation", 4, "--dropout", 0)
    folders = ("--data", tmp_path / "data", "--out", tmp_path / "out")
    assert run(monkeypatch, "train", "--name", "toy", *folders, *small) == 0
    assert load_histonet(tmp_path / "data", "toy").tile == 224
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["patches"] == 8
    with open(tmp_path / "out" / "classes.csv") as file:
        assert all(0 <= float(row["AUC"]) <= 1 for row in csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs 0: expected a positive"),
        (["--half-cycle", "0"], "--half-cycle 0"),
        (["--low", "1"], "--low 1.0 --high 0.02"),
        (["--dropout", "-1"], "--dropout -1.0"),
        (["--tile", "30"], "--tile 30: expected a multiple of 8"),
        (["--images", "x"], "--images and --labels go together"),
        (["--images", "x", "--labels", "no.csv"], "no.csv: cannot be read"),
    ],
)
def test_options_of_no_use(monkeypatch, capsys, options, message):
    assert run(monkeypatch, "train", "--name", "toy", *options) == 2
    assert message in capsys.readouterr().err
