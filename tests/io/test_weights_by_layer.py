"""Weights find their layers in files of every kind that Keras writes, and in networks of every form."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from hsn_v1.errors import InputError
from hsn_v1.histonet import finish_weights
from hsn_v1.io.models import load_histonet
from hsn_v1.training.new_class_file import class_file

SIZE = 16
CASES = Path(__file__).parents[2] / "../shared/cases/models"


@pytest.fixture
def folder(tmp_path):
    """Make a folder with thresholds and classes."""
    savemat(tmp_path / "m.mat", {"optimalScoreThresh": np.full((1, 4), 0.5)})
    (tmp_path / "m.toml").write_text(class_file("m", dict.fromkeys("abcd"), 1, [0], [1]))
    return tmp_path


def nested(keras):
    """Return a network with augmentation, adapted statistics, and a frozen model and another one within it."""
    layers = keras.layers
    first = keras.Sequential([keras.Input((14, 14, 3)), layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization()])
    second = keras.Sequential([keras.Input((14, 14, 4)), layers.SeparableConv2D(5, 3, name="conv"), layers.ReLU(6.0)])
    first.trainable = False
    tile = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(3, 3, name="conv")(layers.Normalization()(layers.RandomFlip()(tile)))
    x = layers.GlobalAveragePooling2D()(second(layers.GaussianNoise(0.1)(first(x, training=False))))
    return keras.Model(tile, layers.Dense(4, activation="sigmoid")(layers.Dropout(0.1)(x)))


def cam(keras, pooling):
    """Return the CAM network of weak segmentation: a map for each class, then its mean or maximum."""
    layers = keras.layers
    stack = [layers.Conv2D(8, 3), layers.ReLU(), layers.Dropout(0.1), layers.Conv2D(4, 1), pooling(keepdims=True)]
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *stack, layers.Flatten(), layers.Activation("sigmoid")])


def randomise(keras, model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.uniform(0.1, 0.4, weight.shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    finish_weights(model)


def write(model, folder, kind):
    if kind == "keras":
        model.save(folder / "m.keras")
        return
    (folder / "m.json").write_text(model.to_json())
    if kind == "whole":
        model.save(folder / "m.h5")
    else:
        model.save_weights(folder / "m.weights.h5")
        shutil.move(folder / "m.weights.h5", folder / "m.h5")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
@pytest.mark.parametrize("kind", ["keras", "whole", "weights"])
@pytest.mark.parametrize("form", ["nested", "mean", "maximum"])
def test_scores_are_those_of_the_network_that_was_saved(keras, folder, kind, form):
    pooling = keras.layers.GlobalAveragePooling2D if form == "mean" else keras.layers.GlobalMaxPooling2D
    model = nested(keras) if form == "nested" else cam(keras, pooling)
    randomise(keras, model)
    write(model, folder, kind)
    histonet = load_histonet(folder, "m")
    tiles = np.random.default_rng(1).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    expected = model.predict_on_batch(tiles)
    np.testing.assert_allclose(histonet.model.predict_on_batch(tiles), expected, rtol=1e-5)
    assert histonet.closed_form and np.ptp(expected) > 1e-3


def test_a_cam_network_has_the_maps_of_its_twin_with_a_dense_layer(keras, folder):
    layers, tiles = keras.layers, np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    model = cam(keras, layers.GlobalAveragePooling2D)
    kernel, bias, classes, offsets = model.get_weights()
    stack = [layers.Conv2D(8, 3), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4, "sigmoid")]
    twin = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *stack])
    twin.set_weights([kernel, bias, classes[0, 0], offsets])
    results = []
    for network in (model, twin):
        write(network, folder, "keras")
        results.append(load_histonet(folder, "m")(tiles))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
def test_layers_that_were_renamed_are_filled_in_their_order(keras, folder):
    model = nested(keras)
    randomise(keras, model)
    write(model, folder, "whole")
    with h5py.File(folder / "m.h5", "r+") as file:
        group = file["model_weights"]
        names = list(group.attrs["layer_names"])
        group.attrs["layer_names"] = [f"renamed_{name}" for name in names]
        for name in names:
            group.move(name, f"renamed_{name}")
            inner = group[f"renamed_{name}"]
            for i, weight in enumerate(inner.attrs["weight_names"]):
                inner.move(weight, f"w{i}")
            inner.attrs["weight_names"] = [f"w{i}" for i in range(len(inner.attrs["weight_names"]))]
    tiles = np.random.default_rng(1).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    loaded = load_histonet(folder, "m").model
    np.testing.assert_allclose(loaded.predict_on_batch(tiles), model.predict_on_batch(tiles), rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + 18 * b"\0", b"no archive"])
def test_a_damaged_keras_file_is_one_line(folder, content):
    (folder / "m.keras").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.keras: not a \.keras file"):
        load_histonet(folder, "m")


@pytest.mark.slow
def test_models_as_people_have_them_are_loaded_and_give_their_scores():
    if not CASES.is_dir():
        pytest.skip(f"no models in {CASES}")
    for path in sorted(CASES.glob("*.json")):
        histonet, known = load_histonet(CASES, path.stem), path.with_name(f"{path.stem}_pred.npz")
        if known.exists():
            with np.load(known) as content:
                np.testing.assert_allclose(histonet(content["x"])[0], content["y"], atol=1e-5)
