"""Fitting: the schedule, the loss, interruption, and what stops it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import step_by_step

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError, Notice
from hsn_v1.training import fit as fitting
from hsn_v1.training.checkpoints import BEST, LAST, LOG, PREVIOUS, RECIPE, read_log
from hsn_v1.training.fit import augmentation, begin_at_random, class_weights, cyclical_learning_rate, fit
from hsn_v1.training.networks import for_tiles
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.recipe import Recipe
from hsn_v1.training.training_data import LabelledPatches, TrainingData

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eagerly")]

TINY = Recipe(width=0.03, tile=32, batch=4, half_cycle=1)
LABELS = parse_taxonomy(class_file("m", dict.fromkeys("abc"), 1, ([128], [60])), "m")


def patches(count, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.zeros((count, 3), np.float32)
    targets[::2, :2] = 1
    return LabelledPatches(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), targets)


@pytest.fixture(autouse=True, scope="module")
def as_they_are(keras):
    """Train on patches as they are: to augment them takes longest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "augmentation", lambda seed: lambda images: images)
        yield


def small_network():
    """Return a network of one block, of which a step is quickly done; what is tested here holds for any."""
    import keras

    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2d_1"),
            keras.layers.BatchNormalization(name="batch_normalization_1"),
            keras.layers.Dropout(0.3, name="dropout_1"),
            keras.layers.GlobalMaxPooling2D(name="pooling_1"),
            keras.layers.Dense(3, activation="sigmoid", name="dense_1"),
        ]
    )


def train(out, epochs=3, on_batch=None, **options):
    model, validation = small_network(), patches(4, seed=1)
    data = TrainingData(LABELS, "", patches(8), validation, validation, [])
    fit(model, data, replace(TINY, **options), epochs, out, on_batch)
    return model


def epochs_of(folder):
    return [row["epoch"] for row in read_log(folder / LOG)]


@pytest.fixture(scope="module")
def trained(as_they_are, tmp_path_factory):
    """Train for two epochs, and return the folder and what was told; no test changes it."""
    folder, told = tmp_path_factory.mktemp("trained"), []
    with step_by_step():
        train(folder, 2, lambda *now: told.append(now))
    return folder, told


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "copy")


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.001), (2.5, 0.0105), (5, 0.02), (7.5, 0.0105), (10, 0.001), (25, 0.0105), (45, 0.00575)]
)
def test_the_learning_rate_is_a_triangle_whose_height_halves(epoch, rate):
    assert cyclical_learning_rate(epoch, Recipe()) == pytest.approx(rate)


def test_rare_classes_weigh_more():
    targets = np.zeros((100, 51))
    targets[:50, 0] = 1
    targets[:10, 1] = 1
    weights = class_weights(targets)
    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(5)
    assert weights[2] == weights[0]


def test_augmentation_keeps_what_it_must(keras):
    images = np.full((3, 32, 32, 3), 128, np.uint8)
    augmented = np.asarray(augmentation(0)(images))
    assert augmented.shape == images.shape
    for image in augmented:  # a grey patch may change its shade, as a whole
        np.testing.assert_allclose(image, np.broadcast_to(image[0, 0], image.shape), atol=0.1)
    assert np.ptp(augmented[:, 0, 0], axis=0).max() > 0.5
    assert np.abs(augmented - 128.0).max() < 45


def test_interrupted_training_goes_on_where_it_was(keras, tmp_path, monkeypatch):
    steps, rate = [], cyclical_learning_rate

    def interrupted(epoch, recipe):
        steps.append(epoch)
        if epoch >= 1.5:
            raise KeyboardInterrupt
        return rate(epoch, recipe)

    monkeypatch.setattr(fitting, "cyclical_learning_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert epochs_of(tmp_path) == ["0"]
    assert steps == [0, 0.5, 1, 1.5]

    monkeypatch.setattr(fitting, "cyclical_learning_rate", lambda *at: steps.append(at[0]) or rate(*at))
    model = train(tmp_path)
    log = read_log(tmp_path / LOG)
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert list(log[0])[3:] == ["rate", "seconds", "patches_per_second", "AUC a", "AUC b"]  # none of c, in no patch
    assert all(0 <= float(row["AUC a"]) <= 1 and float(row["patches_per_second"]) > 0 for row in log)
    assert steps[4:] == [1, 1.5, 2, 2.5]
    trained = [weight.copy() for weight in model.get_weights()]
    twin = for_tiles(model, 64)
    assert all((ours == its).all() for ours, its in zip(trained, twin.get_weights(), strict=True))
    again = train(tmp_path)  # nothing is left to do
    assert len(steps) == 8
    for one, other in zip(trained, again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_weights_where_that_is_wanted(tmp_path, monkeypatch):
    from tensorflow.python.framework.config import disable_op_determinism

    monkeypatch.setattr(fitting, "augmentation", augmentation)
    weights = []
    try:
        for out in (tmp_path / "one", tmp_path / "two"):
            begin_at_random(replace(TINY, deterministic=True))
            weights.append(train(out, 1, deterministic=True).get_weights())
    finally:
        disable_op_determinism()  # for the tests that follow
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_best_epoch_is_kept(keras, tmp_path):
    model = train(tmp_path, 4, high=0.5)
    log = read_log(tmp_path / LOG)
    weights = small_network()
    weights.compile("sgd", fitting.weighted_cross_entropy(class_weights(patches(8).targets)), jit_compile=False)
    weights.set_weights(model.get_weights())
    loss = weights.evaluate(fitting.batches(patches(4, seed=1), LABELS, TINY, train=False), verbose=0)
    assert loss == pytest.approx(min(float(row["val_loss"]) for row in log), rel=1e-3)


def test_progress_ends_with_the_last_batch_of_the_last_epoch(trained, copy):
    _, told = trained
    assert [(done, total) for done, total, line in told if not line] == [(i, 4) for i in range(5)]
    lines = [line for *_, line in told if line]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    more = []
    train(copy, 3, on_batch=lambda *now: more.append(now))  # goes on
    assert [(done, total) for done, total, line in more if not line] == [(i, 6) for i in (4, 5, 6)]


def flip(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"\0")


def shorten(path):
    """Leave a part of a file, as if power had failed."""
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("names", "damage", "note", "epochs"),
    [
        ((LAST,), shorten, f"{LAST}: checkpoint cannot be read", "012"),
        ((LAST, PREVIOUS), flip, "training begins anew", "012"),
        ((BEST,), flip, f"{BEST}: not there; the best epoch is chosen from those that come", "012"),
        ((LOG,), empty, f"{LOG}: lacks 2 epochs", "2"),
        ((RECIPE,), empty, f"{RECIPE}: cannot be read; training begins anew", "012"),
    ],
)
def test_damage_heals_with_a_note(copy, names, damage, note, epochs):
    for name in names:
        damage(copy / name)
    with pytest.warns(Notice) as notices:
        train(copy, 3)
    assert any(note in str(notice.message) for notice in notices)
    assert epochs_of(copy) == [*epochs]
    assert {path.name for path in copy.iterdir()} >= {BEST, LAST, LOG, RECIPE}


@pytest.mark.filterwarnings("ignore::hsn_v1.errors.Notice")
def test_a_disk_that_is_full_at_a_checkpoint_loses_nothing(keras, tmp_path, monkeypatch):
    """Each file in turn cannot be written; the training goes on from there once there is room."""
    write, refused = type(tmp_path).write_bytes, []

    def fill(path, content):
        if any(f".{name}." in path.name for name in refused):
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(type(tmp_path), "write_bytes", fill)
    for epochs, name in enumerate((RECIPE, LOG, BEST, LAST), 1):
        refused[:] = [name]
        (tmp_path / BEST).unlink(missing_ok=True)
        with pytest.raises(OSError, match="No space left") as full:
            train(tmp_path, epochs)
        assert full.value.filename == str(tmp_path / name)
        refused.clear()
        train(tmp_path, epochs)
        assert len(read_log(tmp_path / LOG)) == epochs
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_holds_one_training(trained):
    with pytest.raises(InputError, match=r"width: 0\.03, now 0\.5"):
        train(trained[0], 1, width=0.5)


def test_divergence_stops_training_with_advice(keras, tmp_path):
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch \d: .* lower `high` than 1e\+30"):
        train(tmp_path, 5, low=1e30, high=1e30)
    assert not (tmp_path / BEST).exists()
