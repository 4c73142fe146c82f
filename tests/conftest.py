"""Toy inputs: a small network with the published one's anatomy, and a folder with data, img and gt."""

import json
import os
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from hsn_v1.__main__ import main
from hsn_v1.adp import ADP, CLASSIFIER_CODES, LABEL_SETS
from hsn_v1.files.writing import write_picture
from hsn_v1.histonet import HistoNet, import_keras, quiet_start
from hsn_v1.show.figures import colourise

TILE = 32
SIZES = {"a#1.png": (32, 32), "b c.png": (40, 70), "d.png_crop_1.png": (32, 32), "ü.PNG": (20, 33)}


def pytest_collection_modifyitems(items):
    """Mark as slow what needs a browser or reference masks."""
    for item in items:
        if {"browser", "reference"} & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture
def command(monkeypatch, capsys):
    """Carry out a command in this process; return its exit status, and what it wrote to stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hsn_v1", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def keras():
    with quiet_start():
        return import_keras()


@pytest.fixture(scope="session")
def toy_model(keras):
    """Make a network of one block with the published anatomy, with random weights and batch-norm statistics."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((TILE, TILE, 3)),
            layers.Conv2D(8, 3, padding="same", name="conv2d_1"),
            layers.Activation("relu", name="activation_1"),
            layers.BatchNormalization(name="batch_normalization_1"),
            layers.Dropout(0.3, name="dropout_1"),
            layers.MaxPooling2D(2, name="max_pooling2d_1"),
            layers.Conv2D(12, 3, padding="same", name="conv2d_2"),
            layers.Activation("relu", name="activation_2"),
            layers.BatchNormalization(name="batch_normalization_2"),
            layers.MaxPooling2D(2, name="max_pooling2d_2"),
            layers.MaxPooling2D(TILE // 4, name="max_pooling2d_3"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(len(CLASSIFIER_CODES), name="dense_1"),
            layers.Activation("sigmoid", name="activation_3"),
        ]
    )
    randomise(model)
    return model


def randomise(model, seed=2):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0.3, 0.5, w.shape) ** (2 if "variance" in w.path else 1) for w in model.weights])


@pytest.fixture(scope="session")
def toy_histonet(toy_model):
    return HistoNet.of(toy_model, np.full(len(CLASSIFIER_CODES), 0.5), ADP)


def write_published(folder, name, model, thresholds):
    """Write a Sequential as Keras 2.2 and MATLAB did: a bare list of layers, and weights by layer name."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = []
    for layer in model.layers:
        kind = type(layer).__name__
        layers.append({"class_name": kind, "config": {"name": layer.name, **KERAS_2[kind](layer)}})
    layers[0]["config"]["batch_input_shape"] = [None, *model.input_shape[1:]]
    description = {"class_name": "Sequential", "config": layers, "keras_version": "2.2.2", "backend": "tensorflow"}
    (folder / f"{name}.json").write_text(json.dumps(description))
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = names
            for weight, values in zip(names, layer.get_weights(), strict=True):
                group[weight.decode()] = values
    savemat(folder / f"{name}.mat", {"optimalScoreThresh": np.reshape(thresholds, (1, -1))})


KERAS_2 = {
    "Conv2D": lambda la: {"filters": la.filters, "kernel_size": [3, 3], "padding": "same", "activation": "linear"},
    "Activation": lambda la: {"activation": la.activation.__name__},
    "BatchNormalization": lambda la: {"axis": -1, "epsilon": 0.001, "momentum": 0.99},
    "Dropout": lambda la: {"rate": la.rate, "noise_shape": None, "seed": None},
    "MaxPooling2D": lambda la: {"pool_size": la.pool_size, "strides": la.strides, "padding": "valid"},
    "Flatten": lambda la: {"data_format": "channels_last"},
    "Dense": lambda la: {"units": la.units, "activation": "linear", "use_bias": True},
}


@pytest.fixture
def root(tmp_path, toy_model):
    """Make a folder with a toy model, four images of three sizes for each demo, and their ground truth."""
    rng = np.random.default_rng(3)
    write_published(tmp_path / "data", "toy", toy_model, np.full(len(CLASSIFIER_CODES), 0.5))
    settings = {"morph": (1, 20, 10, 40, 50, 5), "func": (3, 40, 10, 4, 25, 5), "glas": (3, 40, 10, 4, 25, 5)}
    for name, values in settings.items():
        np.save(tmp_path / "data" / f"{name}_optimal_pcc.npy", np.array([values]))
    for set_name, names in (("patches", ("morph", "func")), ("glands", ("glas",))):
        for file, size in SIZES.items():
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            write_picture(tmp_path / "img" / set_name / file, image)
            for name in names:
                labels = rng.integers(0, len(LABEL_SETS[name]), (2 * size[0], 2 * size[1]), np.uint8)
                write_picture(tmp_path / "gt" / set_name / name / file, colourise(labels, LABEL_SETS[name]))
    return tmp_path


class Page(HTMLParser):
    """What a page holds: tags with their attributes, and texts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def links(path):
    """Return the addresses of a page's links and pictures, and whether there is a file for them."""
    found = {}
    for _, attributes in Page(path).tags:
        for attribute in ("src", "srcset", "href"):
            address = (attributes.get(attribute) or "#").removesuffix(" 2x")
            if not address.startswith(("#", "data:,")):
                found[address] = (path.parent / unquote(address)).is_file()
    assert found
    return found


def write_sparse(path, image, mpp):
    """Write a slide of 512 x 512 px of which only `image`, the square from 128 to 384, was scanned."""
    canvas = np.zeros((512, 512, 3), np.uint8)
    canvas[128:384, 128:384] = image
    corners = [(y, x) for y in range(0, 512, 128) for x in range(0, 512, 128)]
    scanned = [canvas[y : y + 128, x : x + 128].tobytes() if canvas[y, x].any() else b"" for y, x in corners]
    tifffile.imwrite(
        path,
        (zlib.compress(tile) if tile else b"" for tile in scanned),
        shape=(512, 512, 3),
        dtype=np.uint8,
        tile=(128, 128),
        photometric="rgb",
        compression="zlib",
        resolution=(10_000 / mpp,) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


@pytest.fixture(scope="session")
def reference():
    folder = Path(os.environ.get("HSN_REFERENCE", "../shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference masks in {folder}: set HSN_REFERENCE to the folder that has `real` and `reference`")
    return folder
