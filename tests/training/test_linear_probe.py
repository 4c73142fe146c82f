"""A linear layer on frozen features."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import TILE, one_convolution, randomise

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.histonet import normalise
from hsn_v1.training import linear_probe
from hsn_v1.training.linear_probe import (
    LinearLayer,
    fit_dense,
    fit_linear_layer,
    pooled_features,
    with_linear_layer,
    without_margin,
)
from hsn_v1.training.new_class_file import VIEWS, class_file
from hsn_v1.training.training_data import LabelledPatches

LABELS = parse_taxonomy(class_file("m", {"a": None, "b": None}, 1, ([100], [50]), views=VIEWS), "m.toml")


def problem(count, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(5, [1, 2, 100], (count, 3)).astype(np.float32)
    return features, np.stack([features[:, 0] > 5.5, features[:, 1] > 3], axis=1).astype(np.float32)


def test_classes_are_told_by_the_features_that_tell_them():
    layer = fit_linear_layer(problem(600, 0), problem(200, 1))
    features, targets = problem(400, 2)
    assert ((layer(features) > 0.5) == targets).mean(axis=0).min() > 0.93
    assert layer.kernel.shape == (3, 2) and layer.kernel.dtype == layer.bias.dtype == np.float32


def test_a_class_that_all_or_none_has_is_constant():
    features, targets = problem(50, 0)
    targets[:, 0], targets[:, 1] = 1, 0
    layer = fit_linear_layer((features, targets), (features, targets))
    assert (layer(features)[:, 0] > 0.9).all() and (layer(features)[:, 1] < 0.1).all()


@pytest.mark.slow
def test_the_weakest_hold_is_taken_that_tells_patches_about_as_well(monkeypatch):
    """Of few noisy patches, free weights tell others worse; of many, as well."""
    monkeypatch.setattr(linear_probe, "STRENGTHS", (1e-3, 1e3))

    def noisy(count, seed):
        features, targets = problem(count, seed)
        rng = np.random.default_rng(seed)
        wrong = rng.random(targets.shape) < 0.2
        return np.hstack([features, rng.normal(0, 1, (count, 60))]).astype(np.float32), np.abs(targets - wrong)

    few, many = (np.abs(fit_linear_layer(noisy(count, 0), noisy(900, 1)).kernel[0]).max() for count in (70, 4000))
    assert few < 0.3 < many


def test_the_margin_is_not_averaged_over(keras):
    tiles = keras.Input((TILE, TILE, 3))
    encoder = keras.Model(tiles, keras.layers.AveragePooling2D(4)(tiles), name="encoder")
    patch = np.full((1, TILE, TILE, 3), 200, np.uint8)
    patch[:, 8:-8, 8:-8] = 150
    np.testing.assert_allclose(pooled_features(encoder, patch, LABELS, context=8), [[1, 1, 1]], rtol=1e-5)
    in_part = 1 + (1 - 16**2 / 20**2)  # half of the positions around it count
    np.testing.assert_allclose(pooled_features(encoder, patch, LABELS, context=6), [[in_part] * 3], rtol=1e-5)
    whole = 1 + (1 - 0.25)  # a quarter is inside
    np.testing.assert_allclose(pooled_features(encoder, patch, LABELS), [[whole] * 3], rtol=1e-5)


def test_a_network_without_margin_gives_what_its_dense_layer_makes_of_the_inner_places(keras):
    encoder = one_convolution(3, cell=4)
    layer = LinearLayer(np.float32([[1, -2], [0.5, 1], [2, 0]]), np.float32([0.3, -0.1]))
    model = with_linear_layer(encoder, layer)
    patches = np.random.default_rng(0).integers(0, 256, (3, TILE, TILE, 3), np.uint8)
    inner = without_margin(model, 6)
    tiles = normalise(patches.astype(np.float32), LABELS)
    expected = layer(pooled_features(encoder, patches, LABELS, context=6))
    np.testing.assert_allclose(inner.predict_on_batch(tiles), expected, atol=1e-5)
    assert [weight.path for weight in inner.weights] == [weight.path for weight in model.weights]
    inner.layers[-1 if inner.layers[-1].weights else -2].set_weights([layer.kernel * 0, layer.bias * 0])
    np.testing.assert_array_equal(model.predict_on_batch(tiles), 0.5)  # the layers are the same


@pytest.mark.slow
def test_a_networks_dense_layer_is_fitted_to_what_its_other_layers_give(keras):
    model = with_linear_layer(one_convolution(8, cell=4), LinearLayer.blank(8, 2))
    randomise(model)
    rng = np.random.default_rng(0)
    levels = rng.integers(40, 200, (90, 1, 1, 3))
    images = np.broadcast_to(levels, (90, TILE, TILE, 3)).astype(np.uint8)
    targets = np.concatenate([levels[:, 0, 0, :1] > 110, levels[:, 0, 0, :1] <= 110], axis=1).astype(np.float32)
    patches = LabelledPatches(images, targets)
    before = model.layers[1].get_weights()
    train, validation = patches.take(np.arange(60)), patches.take(np.arange(60, 90))
    scores = fit_dense(model, SimpleNamespace(train=train, validation=validation, labels=LABELS, context=8))
    for kept, now in zip(before, model.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(now, kept)
    tiles = normalise(validation.images.astype(np.float32), LABELS)
    np.testing.assert_allclose(model.predict_on_batch(tiles), scores, atol=1e-3)
    assert ((scores[:, 0] > 0.5) == targets[60:, 0]).mean() > 0.8
