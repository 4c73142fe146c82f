import json
import shutil
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import TILE, randomise, write_published
from scipy.io import savemat

from hsn_v1.adp import ADP, CLASSIFIER_CODES, FUNC, GLAS
from hsn_v1.classify import ClassifiedTiles, classify
from hsn_v1.errors import InputError
from hsn_v1.histonet import HistoNet
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.tiles import TileGrid

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path, toy_model):
    """Make a folder with the toy model's files alone."""
    write_published(tmp_path / "data", "toy", toy_model, np.full(len(CLASSIFIER_CODES), 0.5))
    return tmp_path


def tiles(count):
    return RNG.integers(0, 256, (count, TILE, TILE, 3)).astype(np.float32)


@pytest.mark.slow
def test_published_layout_is_loaded(root, toy_model, toy_histonet):
    loaded = load_histonet(root / "data", "toy")
    assert loaded.model.count_params() == toy_model.count_params()
    assert loaded.tile == TILE
    for ours, theirs in zip(loaded(batch := tiles(2)), toy_histonet(batch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_is_saved_is_loaded(tmp_path, toy_model, toy_histonet):
    text = (files("hsn_v1") / "adp.toml").read_text(encoding="utf-8")
    save_histonet(tmp_path / "new", "mine", toy_model, np.linspace(0.3, 1, 51), ADP.codes, text)
    loaded = load_histonet(tmp_path / "new", "mine")
    np.testing.assert_array_equal(loaded.thresholds, np.linspace(0.3, 1, 51))
    for ours, theirs in zip(loaded(batch := tiles(2)), toy_histonet(batch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_tiles_are_normalised(keras):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(1, 1), keras.layers.GlobalMaxPooling2D()])
    model.add(keras.layers.Dense(51))
    ones = [np.ones(weight.shape) for weight in model.weights]
    model.set_weights([weight if weight.ndim > 1 else 0 * weight for weight in ones])
    white = np.full((1, 4, 4, 3), 255, np.float32)
    scores, _ = HistoNet.of(model, np.zeros(51), ADP)(white)
    np.testing.assert_allclose(scores, 3 * (255 - 193.09203) / 56.450138, rtol=1e-5)


@pytest.mark.slow
def test_a_model_without_closed_form_goes_through_gradients(keras, toy_model, toy_histonet):
    """Two dense layers of which the first is the identity: the same network, in another architecture."""
    layers = keras.layers
    twin = keras.models.clone_model(toy_model)
    twin.set_weights(toy_model.get_weights())
    model = keras.Sequential([keras.Input((TILE, TILE, 3)), *twin.layers[:-2], layers.Dense(12, use_bias=False)])
    model.add(layers.Dense(51, "sigmoid"))
    kernel, bias = toy_model.layers[-2].get_weights()
    model.layers[-2].set_weights([np.eye(12)])
    model.layers[-1].set_weights([kernel, bias])
    open_ended = HistoNet.of(model, toy_histonet.thresholds, ADP)
    assert not open_ended.closed_form
    assert toy_histonet.closed_form
    for ours, theirs in zip(open_ended(batch := tiles(3)), toy_histonet(batch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_bfloat16_gives_nearly_the_same_and_is_another_classifier(toy_model, toy_histonet):
    lower = HistoNet.of(toy_model, toy_histonet.thresholds, ADP, "bfloat16")
    policies = {layer.dtype_policy.name for layer in lower.model.layers if layer.name.startswith("conv2d")}
    assert policies == {"mixed_bfloat16"} and lower.model.layers[-1].dtype_policy.name == "float32"
    for ours, exact in zip(lower(batch := tiles(2)), toy_histonet(batch), strict=True):
        assert ours.dtype == np.float32
        assert 0 < np.abs(ours - exact).max() < 0.03 * np.abs(exact).max()
    assert lower.identity != toy_histonet.identity


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_batches_may_span_images(toy_histonet, batch_size):
    images = [
        (key, RNG.integers(0, 256, size, np.uint8)) for key, size in enumerate([(32, 32, 3), (70, 40, 3), (9, 9, 3)])
    ]
    results = list(classify(iter(images), toy_histonet, 1.0, batch_size))
    assert [key for key, _, _ in results] == [0, 1, 2]
    for (_, image), (_, passed, found) in zip(images, results, strict=True):
        assert passed is image
        scores, cams = toy_histonet(found.grid.crop(image))
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.cams, cams, rtol=1e-3, atol=1e-5)


def test_a_class_is_present_from_its_threshold_on():
    thresholds = np.full(51, 0.5)
    scores = np.zeros((2, 51), np.float32)
    scores[0, CLASSIFIER_CODES.index("T")] = 0.5
    scores[1, CLASSIFIER_CODES.index("G.N")] = 0.6
    scores[1, CLASSIFIER_CODES.index("G")] = 1  # a parent, in no label set
    found = ClassifiedTiles(TileGrid(8, 16, tile=8), scores, thresholds, np.zeros((2, 51, 1, 1)))
    assert found.present(FUNC).tolist() == [[False] * 4 + [True], [False] * 3 + [True, False]]
    assert found.present(GLAS).tolist() == [[False, True]] * 2


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rewrite_json(change):
    def spoil(path):
        description = json.loads(path.read_text())
        change(description["config"])
        path.write_text(json.dumps(description))

    return spoil


def drop_dataset(path):
    with h5py.File(path, "a") as file:
        del file["conv2d_2"]["conv2d_2"]


def save(**variables):
    return lambda path: savemat(path, variables)


WIDER = rewrite_json(lambda layers: layers[5]["config"].update(filters=13))
SHORTER = rewrite_json(lambda layers: layers.pop(2))

#: More of damaged architectures is in `io.test_keras_json`.
BROKEN = {
    "no json": (".json", Path.unlink, "no such file"),
    "no weights": (".h5", Path.unlink, "no such file"),
    "no thresholds": (".mat", Path.unlink, "no such file"),
    "cut json": (".json", cut, "not a JSON file"),
    "cut weights": (".h5", cut, "cut off"),
    "cut thresholds": (".mat", cut, "not a MATLAB file"),
    "empty weights": (".h5", lambda path: path.write_bytes(b""), "cut off"),
    "lost weights": (".h5", drop_dataset, "not a file of Keras weights"),
    "wider layer": (".json", WIDER, r"layer conv2d_2 .*3 x 3 x 8 x 13.*3 x 3 x 8 x 12"),
    "missing layer": (".json", SHORTER, r"layer conv2d_2 .*batch_normalization_1"),
    "50 thresholds": (".mat", save(optimalScoreThresh=np.ones((1, 50))), "50 values, expected 51"),
    "no variable": (".mat", save(other=1), "0 values, expected 51"),
    "not finite": (".mat", save(optimalScoreThresh=np.full(51, np.nan)), "holds nan for output 1, expected 0 to 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_model_files_are_named(root, request, suffix, spoil, message):
    if suffix != ".h5":  # the library might crash here
        request.getfixturevalue("unsandboxed")
    path = root / "data" / f"toy{suffix}"
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        load_histonet(root / "data", "toy")
    assert "toy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="data: no such folder"):
        load_histonet(tmp_path / "data", "toy")


def test_a_classifier_of_other_classes_is_refused(keras, unsandboxed, tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, padding="same", name="conv2d_1"),
            layers.Activation("relu", name="activation_1"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(7, name="dense_1"),
        ]
    )
    randomise(model)
    write_published(tmp_path, "toy", model, np.ones(51))
    with pytest.raises(InputError, match="expected square RGB tiles to 51 scores"):
        load_histonet(tmp_path, "toy")


@pytest.mark.slow
def test_weights_of_a_whole_model_are_found_in_their_group(root, toy_histonet):
    path = root / "data" / "toy.h5"
    shutil.move(path, root / "weights.h5")
    with h5py.File(root / "weights.h5") as source, h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs.update(source.attrs)
        for name in source:
            source.copy(name, group)
    batch = tiles(1)
    np.testing.assert_allclose(load_histonet(root / "data", "toy")(batch)[0], toy_histonet(batch)[0], rtol=1e-5)
