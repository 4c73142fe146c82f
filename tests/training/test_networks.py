"""The networks that can be trained: their shapes, their weights, and that Grad-CAM is a closed form for each."""

import h5py
import numpy as np
import pytest
from helpers import randomise

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.gradcam import closed_form_weights, feature_layer, gradient_weights
from hsn_v1.histonet import finish_weights
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.training.networks import APPLICATIONS, begin_with, build_histonet, build_network, for_tiles
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.recipe import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eagerly")]

LAST_MAPS = {
    "histonet": ("activation_7", 16),
    "vgg16": ("block5_conv3", 4),
    "resnet50": ("conv5_block3_out", 2),
    "efficientnetb0": ("top_activation", 2),
}


def test_the_published_network_has_its_parameters(keras):
    assert build_histonet(51, 224).count_params() == 1_753_203
    assert build_histonet(51, 224, width=0.5, dropout=0).count_params() < 1_753_203 / 3.5


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_no_weight_depends_on_the_tile(keras, pooling):
    recipe = Recipe(width=0.05, pooling=pooling, tile=16)
    small = build_network(recipe, 3)
    randomise(small)
    large = for_tiles(small, 64)
    grey = np.full((1, 64, 64, 3), 0.3, np.float32)
    assert large.output_shape == small.output_shape == (None, 3)
    np.testing.assert_array_less(np.abs(large.predict_on_batch(grey) - 0.5), 0.51)


def test_bfloat16_is_for_training_only(keras):
    recipe = Recipe(width=0.05, tile=16, bfloat16=True)
    assert build_network(recipe, 2).get_layer("conv2d_1").compute_dtype == "bfloat16"
    assert build_network(recipe, 2).get_layer("dense_1").compute_dtype == "float32"
    assert for_tiles(build_network(recipe, 2), 16).get_layer("conv2d_1").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


TEXT = class_file("m", {"a": None, "b": None}, 1, [0], [1])


def perturb(model):
    """Give weights and statistics values that are not trivial."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([w * rng.uniform(0.9, 1.1, w.shape) + (w.ndim < 2) * 0.05 for w in layer.get_weights()])
    finish_weights(model)
    return rng.normal(0, 1, (3, 64, 64, 3)).astype(np.float32)


@pytest.mark.parametrize("network", LAST_MAPS)
def test_every_network_is_saved_loaded_and_localises_by_the_closed_form(keras, network, tmp_path):
    model = build_network(Recipe(network=network, width=0.1, tile=64), 2)
    tiles = perturb(model)[:2]
    name, side = LAST_MAPS[network]
    features = feature_layer(model)
    assert features.name == name and features.output.shape[1:3] == (side, side)
    closed = closed_form_weights(model)
    for weights in gradient_weights(model, tiles):
        np.testing.assert_allclose(weights, closed, rtol=2e-3, atol=1e-7)

    save_histonet(tmp_path, "m", model, np.array([0.4, 0.6]), ["a", "b"], TEXT)
    loaded = load_histonet(tmp_path, "m")
    assert loaded.closed_form and loaded.labels == parse_taxonomy(TEXT, "m")
    scores, cams = loaded(tiles)
    assert cams.shape == (2, 2, side, side)
    np.testing.assert_allclose(scores, model.predict_on_batch(tiles / np.float32(1 + 1e-7)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("network", LAST_MAPS)
def test_what_is_judged_saved_and_loaded_is_what_was_trained(keras, network, tmp_path, monkeypatch):
    """With statistics that are not trivial, and where ImageNet's weights come with layers that others have not."""
    if network != "histonet":  # which has no weights of ImageNet
        make = getattr(keras.applications, APPLICATIONS[network][0])

        def fetched(weights, include_top, input_tensor):
            base = make(weights=None, include_top=include_top, input_tensor=input_tensor)
            scaled = keras.layers.Rescaling([0.5] * base.output.shape[-1], name="rescaling_of_imagenet")
            return keras.Model(base.inputs, scaled(base.output))

        monkeypatch.setattr(f"keras.applications.{APPLICATIONS[network][0]}", fetched)
    trained = build_network(Recipe(network=network, width=0.1, tile=64), 2, imagenet=network != "histonet")
    tiles = perturb(trained)
    judge = for_tiles(trained, 64)
    save_histonet(tmp_path, "m", judge, np.array([0.4, 0.6]), ["a", "b"], TEXT)
    expected = trained.predict_on_batch(tiles)
    assert 0.01 < expected.min() < expected.max() < 0.99 and np.ptp(expected) > 1e-5
    for judged in (judge, for_tiles(for_tiles(trained, 88), 64), load_histonet(tmp_path, "m").model):
        np.testing.assert_allclose(judged.predict_on_batch(tiles), expected, rtol=1e-4, atol=1e-6)


def test_efficientnet_pads_for_tiles_of_any_size(keras):
    model = build_network(Recipe(network="efficientnetb0", tile=64), 2)
    for tile in (72, 88):
        clone, anew = for_tiles(model, tile), build_network(Recipe(network="efficientnetb0", tile=tile), 2)
        assert [layer.output.shape for layer in clone.layers] == [layer.output.shape for layer in anew.layers]


def test_imagenets_weights_get_the_channels_that_they_expect(keras):
    """The first layer of VGG16 turns R, G, B into B, G, R; it is never trained."""
    model = build_network(Recipe(network="vgg16", tile=32), 2)
    turn = model.get_layer("blue_green_red")
    assert not turn.trainable
    np.testing.assert_array_equal(np.asarray(turn(np.float32([[[[1, 2, 3]]]]))).ravel(), [3, 2, 1])


def test_weights_to_begin_with(keras, tmp_path):
    recipe = Recipe(width=0.05, tile=16)
    before, after = build_network(recipe, 5), build_network(recipe, 2)
    randomise(before)
    save_histonet(tmp_path, "m", before, np.ones(5), "abcde", class_file("m", dict.fromkeys("abcde"), 1, [0], [1]))
    message = begin_with(after, tmp_path / "m.h5", "ab")
    assert "weights of 14 layers" in message and message.endswith("random ones in dense_1")
    for old, new in zip(before.get_weights()[:-2], after.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(old, new)
    assert "weights of 15 layers" in begin_with(build_network(recipe, 5), tmp_path / "m.h5", "abcde")
    assert begin_with(build_network(recipe, 5), tmp_path / "m.h5", "abced").endswith("random ones in dense_1")
    with pytest.raises(InputError, match="fits no layer of vgg16"):
        begin_with(build_network(Recipe(network="vgg16", tile=32), 2), tmp_path / "m.h5", "ab")
    (tmp_path / "broken.h5").write_bytes(b"no weights")
    for name in ("broken.h5", "none.h5"):
        with pytest.raises(InputError, match=f"{name}: "):
            begin_with(after, tmp_path / name, "ab")


def test_histonet_has_no_imagenet_weights():
    with pytest.raises(InputError, match="HistoNet has no such weights"):
        build_network(Recipe(), 2, imagenet=True)


def test_imagenet_weights_that_cannot_be_fetched(keras, monkeypatch):
    def fetch(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("keras.applications.VGG16", fetch)
    with pytest.raises(InputError, match=r"cannot be fetched \(no route to host\); .* give the file as weights"):
        build_network(Recipe(network="vgg16", tile=32), 2, imagenet=True)


def test_an_order_that_differs_from_the_weights_is_refused(keras, tmp_path):
    model = build_network(Recipe(width=0.05, tile=16), 2)
    save_histonet(tmp_path, "m", model, np.ones(2), "ab", class_file("m", dict.fromkeys("ab"), 1, [0], [1]))
    (tmp_path / "m.toml").write_text(class_file("m", dict.fromkeys("ba"), 1, [0], [1]), encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.toml: output 1 is b, that of m\.h5 is a; .* order of the weights: a, b"):
        load_histonet(tmp_path, "m")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file.attrs["hsn_v1_outputs"]  # as in the published file, which cannot be checked
    assert load_histonet(tmp_path, "m").labels.codes == ("b", "a")
