"""The networks that can be trained: their shapes, their weights, and that Grad-CAM is a closed form for each."""

from functools import cache

import h5py
import numpy as np
import pytest
from helpers import randomise

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.gradcam import closed_form_weights, feature_layer, gradient_weights
from hsn_v1.histonet import finish_weights
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.training.networks import APPLICATIONS, begin_with, build_histonet, build_network, check_weights, for_tiles
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.recipe import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eagerly")]

LAST_MAPS = {
    "histonet": ("activation_7", 16),
    "vgg16": ("block5_conv3", 4),
    "resnet50": ("conv5_block3_out", 2),
    "efficientnetb0": ("top_activation", 2),
}
TEXT = class_file("m", {"a": None, "b": None}, 1, ([0], [1]))
SMALL = Recipe(width=0.05, tile=16)


@pytest.fixture(scope="module")
def built(keras):
    """Build each network once, with weights and statistics that are not trivial; no test changes it.

    As where ImageNet's weights come, with layers that others have not.
    """

    @cache
    def build(name):
        rng = np.random.default_rng(0)
        keras.utils.set_random_seed(0)
        with pytest.MonkeyPatch.context() as patched:
            if name in APPLICATIONS:  # HistoNet has no weights of ImageNet
                make = getattr(keras.applications, APPLICATIONS[name][0])

                def fetched(weights, include_top, input_tensor):
                    scaled = keras.layers.Rescaling([0.9, 1, 1.1], name="rescaling_of_imagenet")(input_tensor)
                    return make(weights=None, include_top=include_top, input_tensor=scaled)

                patched.setattr(keras.applications, APPLICATIONS[name][0], fetched)
            model = build_network(Recipe(network=name, width=0.1, tile=64), 2, imagenet=name in APPLICATIONS)
        for layer in model.layers:
            if layer.trainable:
                weights = layer.get_weights()
                layer.set_weights(
                    [w * (0.9 + rng.random(w.shape, np.float32) / 5) + (w.ndim < 2) * 0.05 for w in weights]
                )
        finish_weights(model)
        return model

    return build


@pytest.fixture(scope="module")
def resized(built):
    """Clone each network once for tiles of another side."""
    return cache(lambda name, tile: for_tiles(built(name), tile))


def test_the_published_network_has_its_parameters(keras):
    assert build_histonet(51, 224).count_params() == 1_753_203
    assert build_histonet(51, 224, width=0.5, dropout=0).count_params() < 1_753_203 / 3.5


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_no_weight_depends_on_the_tile(keras, pooling):
    small = build_network(Recipe(width=0.05, pooling=pooling, tile=16), 3)
    randomise(small)
    large = for_tiles(small, 64)
    grey = np.full((1, 64, 64, 3), 0.3, np.float32)
    assert large.output_shape == small.output_shape == (None, 3)
    np.testing.assert_array_less(np.abs(large.predict_on_batch(grey) - 0.5), 0.51)


def test_bfloat16_is_for_training_only(keras):
    model = build_network(Recipe(width=0.05, tile=16, bfloat16=True), 2)
    assert model.get_layer("conv2d_1").compute_dtype == "bfloat16"
    assert model.get_layer("dense_1").compute_dtype == "float32"
    assert for_tiles(model, 16).get_layer("conv2d_1").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("network", LAST_MAPS)
def test_what_is_saved_and_loaded_is_what_was_trained_and_localises_by_the_closed_form(
    built, resized, network, tmp_path
):
    trained, (name, side) = built(network), LAST_MAPS[network]
    tiles = np.random.default_rng(0).normal(0, 1, (3, 64, 64, 3)).astype(np.float32)
    features = feature_layer(trained)
    assert features.name == name and features.output.shape[1:3] == (side, side)
    closed = closed_form_weights(trained)
    for weights in gradient_weights(trained, tiles[:2]):
        np.testing.assert_allclose(weights, closed, rtol=2e-3, atol=1e-7)

    expected = trained.predict_on_batch(tiles)
    assert 0.01 < expected.min() < expected.max() < 0.99 and np.ptp(expected) > 1e-5
    resized_twice = for_tiles(resized(network, 72), 64)
    save_histonet(tmp_path, "m", resized_twice, np.array([0.4, 0.6]), ["a", "b"], TEXT)
    loaded = load_histonet(tmp_path, "m")
    assert loaded.closed_form and loaded.labels == parse_taxonomy(TEXT, "m")
    scores, cams = loaded(tiles)
    assert cams.shape == (3, 2, side, side)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tile", [72, 88])
def test_efficientnet_pads_for_tiles_of_any_size(resized, keras, tile):
    clone = [layer.output.shape for layer in resized("efficientnetb0", tile).layers]
    base = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(tile, tile, 3))
    anew = [layer.output.shape for layer in base.layers]
    assert [clone[0], *clone[2 : len(anew) + 1]] == anew  # the second one is of ImageNet


def test_imagenets_weights_get_the_channels_that_they_expect(built):
    """The first layer of VGG16 turns R, G, B into B, G, R; it is never trained."""
    turn = built("vgg16").get_layer("blue_green_red")
    assert not turn.trainable
    np.testing.assert_array_equal(np.asarray(turn(np.float32([[[[1, 2, 3]]]]))).ravel(), [3, 2, 1])


def test_weights_to_begin_with(built, tmp_path):
    before, after = build_network(SMALL, 5), build_network(SMALL, 2)
    randomise(before)
    save_histonet(tmp_path, "m", before, np.ones(5), "abcde", class_file("m", dict.fromkeys("abcde"), 1, ([0], [1])))
    message = begin_with(after, tmp_path / "m.h5", "ab")
    assert "weights of 14 layers" in message and message.endswith("random ones in dense_1")
    for old, new in zip(before.get_weights()[:-2], after.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(old, new)
    assert "weights of 15 layers" in begin_with(before, tmp_path / "m.h5", "abcde")
    assert begin_with(before, tmp_path / "m.h5", "abced").endswith("random ones in dense_1")
    with pytest.raises(InputError, match="fits no layer of vgg16"):
        begin_with(built("vgg16"), tmp_path / "m.h5", "ab")
    (tmp_path / "broken.h5").write_bytes(b"no weights")
    for name in ("broken.h5", "none.h5"):
        with pytest.raises(InputError, match=f"{name}: "):
            begin_with(after, tmp_path / name, "ab")


def test_imagenets_weights_that_cannot_be_had(keras, monkeypatch):
    def fetch(*_, **__):
        raise OSError("no route to host")

    with pytest.raises(InputError, match="HistoNet has no such weights"):
        check_weights("histonet", "imagenet")
    monkeypatch.setattr("keras.applications.VGG16", fetch)
    with pytest.raises(InputError, match=r"cannot be fetched \(no route to host\); .* give the file as weights"):
        build_network(Recipe(network="vgg16", tile=32), 2, imagenet=True)


def test_an_order_that_differs_from_the_weights_is_refused(keras, unsandboxed, tmp_path):
    model = build_network(SMALL, 2)
    save_histonet(tmp_path, "m", model, np.ones(2), "ab", TEXT)
    (tmp_path / "m.toml").write_text(class_file("m", dict.fromkeys("ba"), 1, ([0], [1])), encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.toml: output 1 is b, that of m\.h5 is a; .* order of the weights: a, b"):
        load_histonet(tmp_path, "m")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file.attrs["hsn_v1_outputs"]  # as in the published file, which cannot be checked
    assert load_histonet(tmp_path, "m").labels.codes == ("b", "a")
