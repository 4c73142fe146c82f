"""What several tests make or read: a network written as published, sparse slides, pages."""

import contextlib
import csv
import json
import re
import shlex
import sys
import time
import warnings
import zlib
from html.parser import HTMLParser
from unittest import mock
from urllib.parse import unquote

import h5py
import numpy as np
import psutil
import tifffile
from scipy.io import savemat

from hsn_v1.__main__ import main
from hsn_v1.adp import FUNC
from hsn_v1.io.writing import write_picture
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_label_map
from hsn_v1.tiles import Window

#: Names that mean something elsewhere: to a browser, a spreadsheet, a shell.
NAMES = ["a\nb", 'a"b', "<script>", "=cmd|' /C calc'!A0", "@x", "+1+1", "-2+3", "\tx", "a\udcff", "l" * 250, ".."]

TILE = 32
SIZES = {"a#1.png": (32, 32), "b c.png": (40, 70), "d.png_crop_1.png": (32, 32), "ü.PNG": (20, 33)}


@contextlib.contextmanager
def step_by_step():
    """Carry out Keras' steps one by one: what is called a few times only is done before it would be compiled."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not apply to tf.data functions", UserWarning)
        yield
    tf.config.run_functions_eagerly(False)


def one_convolution(filters, tile=TILE, cell=1):
    """Return an encoder of one convolution, a position for each square of `cell` px."""
    import keras

    tiles = keras.Input((tile, tile, 3))
    layer = keras.layers.Conv2D(filters, max(cell, 3), strides=cell, padding="same", activation="relu")
    return keras.Model(tiles, layer(tiles), name="encoder")


def randomise(model, seed=2):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0.3, 0.5, w.shape) ** (2 if "variance" in w.path else 1) for w in model.weights])


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


def cards(path):
    """Return the attributes of a page's cards."""
    return [attributes for tag, attributes in Page(path).tags if attributes.get("class") == "card"]


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


def hang(path):
    """Read a file without end."""
    time.sleep(600)


def left_of(marker):
    """Return the processes that were started with a marker in their environment."""
    left = []
    for process in psutil.process_iter():
        try:
            left += [process] if process.environ().get("HSN_TEST_MARKER") == marker else []
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return left


def contents(folder):
    """Return all files of a folder: their bytes by their names."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path):
    """Return a table's rows, by the names in its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def carry_out(*arguments):
    """Carry out a command in this process; return its exit status."""
    with mock.patch.object(sys, "argv", ["hsn-v1", *map(str, arguments)]):
        return main()


#: Kinds of label sets, by which of the two classes they have that no classifier scores.
KINDS = ("background and other", "background", "other", "neither")


def class_file_of_kind(kind):
    """Return a class file of red and green tissue, with a label set of a kind."""
    extra = {name: colour for name, colour in (("background", 255), ("other", 100)) if name in kind}
    return "\n".join(
        [
            "mpp = 1\nmean = 128\nstd = 60\n[outputs]\nred = 'red'\ngreen = 'green'\n[label_sets.tissue]",
            *(f"{name} = '{name.title()}'" for name in extra),
            "[label_sets.tissue.classes]\nred = [200, 0, 0]\ngreen = [0, 200, 0]",
            *(f"{name.title()} = {[grey] * 3}" for name, grey in extra.items()),
        ]
    )


def write_halves(folder, count=2):
    """Write images of 64 x 48 px in ``img``, half of it red and half green, and masks in ``mask``."""
    rng = np.random.default_rng(0)
    left = np.arange(64)[np.newaxis, :, np.newaxis].repeat(48, axis=0) < 32  # (48, 64, 1)
    for i in range(count):
        noise = rng.integers(-20, 20, (48, 64, 3))
        write_picture(folder / "img" / f"{i}.png", np.uint8(np.where(left, (200, 60, 60), (60, 200, 60)) + noise))
        write_picture(folder / "mask" / f"{i}.png", np.uint8(np.where(left, (200, 0, 0), (0, 200, 0))))


def blocks_of(page, language):
    """Return a document's code blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_of(page):
    """Return the command lines of a document's shell blocks, as lists of words."""
    for block in blocks_of(page, "sh"):
        for line in re.sub(r"\\?\n +", " ", block).splitlines():
            line = re.sub(r"\$\([^)]*\)|\$\{?\w+\}?", "1", line)  # what a shell would put there
            line = re.sub(r"[\[\]]", "", line)  # around what may be left out
            line = re.sub(r"(\w)(\|\w+)+", r"\1", line)  # the first of several choices
            line = re.sub(r"\b(MPP|N|PX)\b", "1", line)  # what stands for a number
            words = shlex.split(re.sub(r"(^|\s)#.*", "", line))
            if words:
                yield words


LABEL_MAP_MPP = 1.2143


def info_of(labels, label_set=FUNC, **options):
    return LabelMapInfo(*labels.shape, LABEL_MAP_MPP, label_set, **options)


def write_map(path, labels, label_set=FUNC, tile=512, **options):
    """Write a label map; return the pixels of each class."""
    frame = Window(0, 0, *labels.shape)
    info = info_of(labels, label_set, **options)
    return write_label_map(path, lambda window: labels[window.within(frame)], info, tile=tile)
