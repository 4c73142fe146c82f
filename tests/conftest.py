"""Toy inputs: a small network with the published one's anatomy, and a folder with data, img and gt."""

import contextlib
import gc
import os
import shutil
import time
import types
from concurrent.futures import Future
from itertools import starmap
from pathlib import Path

import numpy as np
import pytest
from helpers import SIZES, TILE, carry_out, randomise, step_by_step, write_published
from zenodo import gdown_or_stub, played

from hsn_v1.adp import ADP, CLASSIFIER_CODES, LABEL_SETS
from hsn_v1.histonet import HistoNet
from hsn_v1.io.writing import write_picture
from hsn_v1.keras_start import import_keras, quiet_start
from hsn_v1.sets import fetch
from hsn_v1.show.figures import colourise


def pytest_collection_modifyitems(items):
    """Mark as slow what needs a browser or reference masks."""
    for item in items:
        if {"browser", "reference"} & set(item.fixturenames):
            item.add_marker("slow")


def pytest_collection_finish():
    gc.freeze()  # thousands of tests and what they import stay: the garbage collector would search them again and again


@pytest.fixture
def command(capsys):
    """Carry out a command in this process; return its exit status, and what it wrote to stdout and stderr."""
    return lambda *arguments: (carry_out(*arguments), *capsys.readouterr())


@pytest.fixture(scope="session")
def keras():
    with quiet_start():
        return import_keras()


@pytest.fixture
def eagerly(keras):
    with step_by_step():
        yield


@pytest.fixture(scope="module")
def forked_workers():
    """Fork Dask's local workers, those too that take a dead one's place, of a process that has loaded all of theirs."""
    utils = pytest.importorskip("distributed.utils")
    with pytest.importorskip("dask").config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        utils.get_mp_context().set_forkserver_preload(["distributed", "dask_work", "hsn_v1.slides.segment_many"])
        yield


@pytest.fixture
def in_process(monkeypatch):
    """Do in this process what is done in workers otherwise: none of them is started."""

    def submit(work, *arguments):
        future = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def map_(work, *columns, chunksize):
        return starmap(work, zip(*columns, strict=True))

    monkeypatch.setattr("hsn_v1.parallel.pool_of", lambda *_: types.SimpleNamespace(map=map_, submit=submit))


@pytest.fixture
def unsandboxed(monkeypatch):
    """Read a model's files in this process instead of sandboxes, of which each file that is refused costs one."""

    def requested(process, path, function, arguments, seconds):
        return lambda: function(path, *arguments)

    monkeypatch.setattr("hsn_v1.io.sandbox._reader", contextlib.nullcontext)
    monkeypatch.setattr("hsn_v1.io.sandbox._requested", requested)


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


@pytest.fixture(scope="session")
def toy_histonet(toy_model):
    return HistoNet.of(toy_model, np.full(len(CLASSIFIER_CODES), 0.5), ADP)


@pytest.fixture(scope="session")
def made_root(tmp_path_factory, toy_model):
    """Make a folder with a toy model, four images of three sizes for each demo, and their ground truth."""
    folder = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(3)
    write_published(folder / "data", "toy", toy_model, np.full(len(CLASSIFIER_CODES), 0.5))
    settings = {"morph": (1, 20, 10, 40, 50, 5), "func": (3, 40, 10, 4, 25, 5), "glas": (3, 40, 10, 4, 25, 5)}
    for name, values in settings.items():
        np.save(folder / "data" / f"{name}_optimal_pcc.npy", np.array([values]))
    for set_name, names in (("patches", ("morph", "func")), ("glands", ("glas",))):
        for file, size in SIZES.items():
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            write_picture(folder / "img" / set_name / file, image)
            for name in names:
                labels = rng.integers(0, len(LABEL_SETS[name]), (2 * size[0], 2 * size[1]), np.uint8)
                write_picture(folder / "gt" / set_name / name / file, colourise(labels, LABEL_SETS[name]))
    return folder


@pytest.fixture
def root(tmp_path, made_root):
    """Copy that folder, to be changed."""
    return shutil.copytree(made_root, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def browser():
    names = "chromium", "chromium-browser", "google-chrome", "chrome"
    chromium = next((path for name in names if (path := shutil.which(name))), None)
    if not chromium:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium) to test pages in it")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install --group dev")
    quiet = ("quic", "gpu", "background-networking", "component-update", "sync")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reference():
    folder = Path(os.environ.get("HSN_REFERENCE", "../shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference masks in {folder}: set HSN_REFERENCE to the folder that has `real` and `reference`")
    return folder


@pytest.fixture
def host(monkeypatch):
    """Play Zenodo and the drive; nobody waits."""
    waited = []
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "time", types.SimpleNamespace(sleep=waited.append, time=time.time))
    with played({}) as server:
        server.waited = waited
        monkeypatch.setattr(fetch, "ZENODO", server.url)
        monkeypatch.setattr(fetch, "DRIVE", f"{server.url}/uc")
        yield server


@pytest.fixture
def gdown(monkeypatch):
    return gdown_or_stub(monkeypatch)
