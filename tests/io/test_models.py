"""Where a model's files are looked for; weights find their layers in files of every kind that Keras writes."""

import contextlib
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from hsn_v1.adp import ADP
from hsn_v1.errors import InputError
from hsn_v1.histonet import finish_weights
from hsn_v1.io.model_files import SHIPPED, find_model, model_file, read_crfs, read_taxonomy, taxonomy_of
from hsn_v1.io.models import load_histonet, read_thresholds, read_weights, save_histonet
from hsn_v1.io.weights import read_keras
from hsn_v1.labels import Taxonomy
from hsn_v1.training.new_class_file import class_file

MODEL = "histonet_X1.7_phantom"
SIZE = 16
TILES = np.random.default_rng(1).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
CASES = Path(__file__).parents[2] / "../shared/cases/models"


@contextlib.contextmanager
def owner():
    """Work as who owns the files, to whom permissions do not apply."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    yield
    os.seteuid(user)


@pytest.fixture
def not_root():
    """Work as a user to whom permissions apply, in a folder that he can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(os.getuid())
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users")
@pytest.mark.parametrize(
    ("suffix", "read"),
    [
        (".json", lambda path: load_histonet(path.parent, MODEL)),
        (".h5", read_weights),
        (".mat", lambda path: read_thresholds(path, 51)),
        (".toml", lambda path: load_histonet(path.parent, MODEL)),
    ],
)
def test_files_without_permission_are_one_line(not_root, suffix, read):
    path = not_root / "data" / f"{MODEL}{suffix}"
    with owner():
        path.parent.mkdir()
        for each in (".json", ".h5", ".mat", ".toml"):
            shutil.copy(SHIPPED / f"{MODEL}{each}", path.parent)
        path.chmod(0)
    with pytest.raises(InputError, match=rf"{suffix}: cannot be read \(Permission denied\)"):
        read(path)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users")
def test_a_folder_without_permission_is_one_line(not_root):
    with owner():
        (not_root / "data").mkdir()
        (not_root / "data" / "x.json").touch()
        (not_root / "data").chmod(0)
    for call in (
        lambda: find_model(not_root, "x"),
        lambda: read_taxonomy(not_root / "data", "x"),
        lambda: load_histonet(not_root / "data", "x"),
        lambda: read_crfs(not_root / "data", "x", (next(iter(read_taxonomy(SHIPPED, MODEL).label_sets.values())),)),
    ):
        with pytest.raises(InputError, match=r"data.*: cannot be opened \(Permission denied\)"):
            call()


@pytest.mark.parametrize("name", ["[", "*", "", "/abs/x", "../x", "a\udcff"])
def test_names_of_any_kind_are_looked_for(tmp_path, name):
    assert find_model(tmp_path, name) == tmp_path / "data"
    with pytest.raises(InputError, match="no such folder"):
        load_histonet(tmp_path / "data", name)
    with pytest.raises(InputError, match="File name too long"):
        find_model(tmp_path, "a" * 300)


def test_what_is_shipped_is_found_where_nothing_else_is(tmp_path):
    assert find_model(tmp_path, MODEL) == SHIPPED
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{MODEL}.mat").write_bytes(b"")
    assert find_model(tmp_path, MODEL) == tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", [MODEL, f"{MODEL}56"])
def test_shipped_models_are_loaded_by_us_and_described_so_that_keras_reads_them(keras, eagerly, name):
    histonet = load_histonet(SHIPPED, name)
    theirs = keras.models.model_from_json((SHIPPED / f"{name}.json").read_text())
    assert [weight.shape for weight in theirs.weights] == [weight.shape for weight in histonet.model.weights]
    assert isinstance(histonet.labels, Taxonomy)


def test_a_file_of_classes_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.toml").write_bytes("# größer".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.toml: not UTF-8 text"):
        read_taxonomy(tmp_path, "latin")
    assert read_taxonomy(tmp_path, "none") is ADP


def test_an_unknown_model_is_told_which_there_are(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("mine.json", "mine.mat", "half.json"):
        (tmp_path / "data" / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"choose one of: colon_glands, {MODEL}, {MODEL}56, mine$"):
        load_histonet(tmp_path / "data", "mien")
    with pytest.raises(
        InputError, match=f"elsewhere.data: no such folder; .* one of: colon_glands, {MODEL}, {MODEL}56$"
    ):
        taxonomy_of(tmp_path / "elsewhere", "mine")


@pytest.mark.slow
def test_a_file_of_classes_that_is_missing_is_named(tmp_path):
    for ending in (".json", ".h5", ".mat"):
        shutil.copy(SHIPPED / f"colon_glands{ending}", tmp_path)
    with pytest.raises(InputError, match=r"2 values, expected 51 .* of adp.toml, as there is no .*colon_glands\.toml$"):
        load_histonet(tmp_path, "colon_glands")


@pytest.mark.parametrize("name", ["my model/x", "../x", "a:b", "CON"])
def test_models_of_any_name_are_saved_inside_the_folder_and_found(tmp_path, toy_model, name):
    text = (files("hsn_v1") / "adp.toml").read_text(encoding="utf-8")
    save_histonet(tmp_path / "data", name, toy_model, np.full(51, 0.5), ADP.codes, text)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "data"}
    assert find_model(tmp_path, name) == tmp_path / "data"
    assert model_file(tmp_path / "data", name, ".h5").is_file()
    assert taxonomy_of(tmp_path, name).codes == ADP.codes


@pytest.mark.slow
def test_a_classifier_of_real_tissue_is_shipped_with_its_card_and_licences(eagerly):
    assert find_model(Path("nowhere"), "colon_glands") == SHIPPED
    classifier = load_histonet(SHIPPED, "colon_glands")
    assert classifier.labels.codes == ("other", "gland") and classifier.labels.label_sets["tissue"].background
    assert classifier.labels.stain and classifier.labels.caveat
    assert [classifier.labels.label_sets["tissue"].describe(code) for code in ("other", "gland")] == [
        "other tissue",
        "gland",
    ]
    look = classifier.with_views(flips=False, scales=(0.7, 1.0))  # 2 views, not 24
    scores, cams = look(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.float32))
    assert scores.shape == (2, 2) and cams.shape[:2] == (2, 2) and cams.min() >= 0
    assert sum(file.stat().st_size for file in SHIPPED.glob("colon_glands*")) < 5_000_000
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    for text in ((SHIPPED / "colon_glands.md").read_text(encoding="utf-8"), notice):
        assert all(words in text for words in ("Apache License", "EBHI-Seg", "CC BY"))


@pytest.fixture
def folder(tmp_path):
    """Make a folder with thresholds and classes."""
    savemat(tmp_path / "m.mat", {"optimalScoreThresh": np.full((1, 4), 0.5)})
    (tmp_path / "m.toml").write_text(class_file("m", dict.fromkeys("abcd"), 1, ([0], [1])))
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
def test_scores_are_those_of_the_network_that_was_saved(keras, eagerly, folder, kind, form):
    pooling = keras.layers.GlobalAveragePooling2D if form == "mean" else keras.layers.GlobalMaxPooling2D
    model = nested(keras) if form == "nested" else cam(keras, pooling)
    randomise(keras, model)
    write(model, folder, kind)
    histonet = load_histonet(folder, "m")
    expected = model.predict_on_batch(TILES)
    np.testing.assert_allclose(histonet.model.predict_on_batch(TILES), expected, rtol=1e-5)
    assert histonet.closed_form and np.ptp(expected) > 1e-3


@pytest.mark.slow
def test_a_cam_network_has_the_maps_of_its_twin_with_a_dense_layer(keras, eagerly, folder):
    layers, tiles = keras.layers, 100 * TILES
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
def test_layers_that_were_renamed_are_filled_in_their_order(keras, eagerly, folder):
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
    loaded = load_histonet(folder, "m").model
    np.testing.assert_allclose(loaded.predict_on_batch(TILES), model.predict_on_batch(TILES), rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + 18 * b"\0", b"no archive"])
def test_a_damaged_keras_file_is_one_line(tmp_path, content):
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.keras: not a \.keras file"):
        read_keras(tmp_path / "m.keras")


@pytest.mark.slow
def test_models_as_people_have_them_are_loaded_and_give_their_scores(eagerly):
    if not CASES.is_dir():
        pytest.skip(f"no models in {CASES}")
    for path in sorted(CASES.glob("*.json")):
        histonet, known = load_histonet(CASES, path.stem), path.with_name(f"{path.stem}_pred.npz")
        if known.exists():
            with np.load(known) as content:
                np.testing.assert_allclose(histonet(content["x"])[0], content["y"], atol=1e-5)
