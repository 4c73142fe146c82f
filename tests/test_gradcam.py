import numpy as np
import pytest
from helpers import TILE, randomise

from hsn_v1.adp import ADP, FUNC, GLAS
from hsn_v1.classify import ClassifiedTiles
from hsn_v1.errors import InputError
from hsn_v1.gradcam import closed_form_weights, coarse_cams, feature_layer, grad_cams, gradient_weights, localise
from hsn_v1.histonet import HistoNet
from hsn_v1.hsn_v1 import segment
from hsn_v1.tiles import TileGrid


def network(keras, *head, activation=True):
    """Make a convolutional network that ends in the given layers, with random weights."""
    keras.utils.set_random_seed(0)
    stem = [keras.Input((TILE, TILE, 3)), keras.layers.Conv2D(6, 3, padding="same")]
    model = keras.Sequential([*stem, *[keras.layers.ReLU()] * activation, *head])
    randomise(model)
    return model


HEADS = {
    "max": lambda k: [k.BatchNormalization(), k.GlobalMaxPooling2D(), k.Dense(5)],
    "average": lambda k: [k.BatchNormalization(), k.GlobalAveragePooling2D(), k.Dropout(0.5), k.Dense(5)],
    "twice": lambda k: [k.MaxPooling2D(3), k.BatchNormalization(), k.AveragePooling2D(10), k.Flatten(), k.Dense(5)],
    "convolution": lambda k: [k.GlobalAveragePooling2D(keepdims=True), k.Conv2D(5, 1, activation="tanh"), k.Flatten()],
    "no scale": lambda k: [k.BatchNormalization(scale=False), k.GlobalMaxPooling2D(), k.Dense(5), k.Activation("tanh")],
}

OPEN_HEADS = {
    "two dense": lambda k: [k.GlobalMaxPooling2D(), k.Dense(7, "relu"), k.Dense(5)],
    "positions left": lambda k: [k.MaxPooling2D(8), k.Flatten(), k.Dense(5)],
    "another layer": lambda k: [k.GlobalMaxPooling2D(), k.LayerNormalization(), k.Dense(5)],
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_closed_form_equals_automatic_differentiation(keras, head):
    model = network(keras, *head(keras.layers))
    tiles = np.random.default_rng(0).normal(size=(3, TILE, TILE, 3)).astype(np.float32)
    closed = closed_form_weights(model)
    assert closed.shape == (6, 5)
    for weights in gradient_weights(model, tiles):
        np.testing.assert_allclose(weights, closed, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("head", OPEN_HEADS.values(), ids=OPEN_HEADS)
def test_other_architectures_have_no_closed_form(keras, head):
    assert closed_form_weights(network(keras, *head(keras.layers))) is None


def test_gradients_through_two_dense_layers(keras):
    model = network(keras, *OPEN_HEADS["two dense"](keras.layers))
    tiles = np.random.default_rng(0).normal(size=(2, TILE, TILE, 3)).astype(np.float32)
    hidden, out = (layer for layer in model.layers if layer.name.startswith("dense"))
    pooled = keras.Model(model.inputs[0], hidden.input).predict_on_batch(tiles)
    (inner, bias), (outer, _) = hidden.get_weights(), out.get_weights()
    for weights, features in zip(gradient_weights(model, tiles), pooled, strict=True):
        open_units = features @ inner + bias > 0
        positive = features > 0  # elsewhere the maximum is a tie of zeros, whose gradient ReLU stops
        expected = inner @ (open_units[:, np.newaxis] * outer) / TILE**2
        np.testing.assert_allclose(weights[positive], expected[positive], rtol=1e-4, atol=1e-8)


def test_features_are_the_last_activation_that_has_positions(keras):
    layers = keras.layers
    model = network(keras, layers.BatchNormalization(), layers.GlobalMaxPooling2D(), layers.Dense(5), layers.ReLU())
    assert feature_layer(model) is model.layers[1]
    plain = network(keras, layers.GlobalMaxPooling2D(), layers.Dense(5), activation=False)
    assert feature_layer(plain) is plain.layers[0]
    flat = keras.Sequential([keras.Input((TILE, TILE, 3)), layers.Flatten(), layers.Dense(5)])
    with pytest.raises(ValueError, match="no layer with a map"):
        feature_layer(flat)


def test_what_a_classifier_lacks_for_grad_cam_is_said(keras):
    layers, start = keras.layers, keras.Input((TILE, TILE, 3))
    maps = layers.Conv2D(6, 3)(start)
    pooled = layers.Concatenate(name="both")([layers.GlobalAveragePooling2D()(maps), layers.GlobalMaxPooling2D()(maps)])
    with pytest.raises(ValueError, match="joins 2 layers in 'both', behind its last maps: Grad-CAM needs one path"):
        feature_layer(keras.Model(start, layers.Dense(5)(pooled)))
    scores = layers.GlobalAveragePooling2D()(layers.Conv2D(51, 1, activation="sigmoid", name="last")(maps))
    with pytest.raises(
        InputError, match=r"gives no logits.*; its last layer with weights is the Conv2D 'last', with s"
    ):
        HistoNet.of(keras.Model(start, scores), np.full(51, 0.5), ADP)


def test_coarse_cam_is_the_weighted_sum_of_channels():
    features = np.array([[[[1, 2], [3, 4]]]], np.float32)  # one tile of 1 x 2 positions, two channels
    weights = np.array([[1, 0, -1], [10, 1, 0]], np.float32)
    assert coarse_cams(features, weights).tolist() == [[[[21, 43]], [[2, 4]], [[-1, -3]]]]
    per_tile = np.stack([weights, 2 * weights])
    doubled = coarse_cams(np.concatenate([features, features]), per_tile)
    np.testing.assert_array_equal(doubled[1], 2 * doubled[0])


def test_grad_cams_are_resized_before_they_are_rectified():
    cams = grad_cams(np.array([[[-4, 4]], [[-1, -2]]], np.float32), np.array([0.5, 0.9], np.float32), size=4)
    # resized: -4 -2 2 4; rectified: 0 0 2 4; divided by 4; times .5. Rectified first, the second would be .125.
    np.testing.assert_allclose(cams[0, 0], [0, 0, 0.25, 0.5])
    assert not cams[1].any()


def test_absent_classes_have_no_map():
    rng = np.random.default_rng(0)
    grid = TileGrid(16, 24, tile=16)
    coarse, scores = rng.random((2, 51, 4, 4), np.float32), rng.random((2, 51), np.float32)
    scores[:, FUNC.outputs([3])] = 0
    scores[1, FUNC.outputs([4])] = 0
    cams = localise(ClassifiedTiles(grid, scores, np.full(51, 1e-9), coarse), FUNC)
    assert cams.shape == (5, 16, 24)
    assert cams.any(axis=(1, 2)).tolist() == [False, False, True, False, True]
    assert not cams[4, :, 16:].any()
    # where the second tile, in which T is absent, overlaps the first, T counts half
    (alone,) = grad_cams(coarse[0, [50]], scores[0, [50]], 16)
    np.testing.assert_allclose(cams[4, :, 8:16], alone[:, 8:] / 2, rtol=1e-6)
    np.testing.assert_allclose(cams[4, :, :8], alone[:, :8], rtol=1e-6)


def test_outputs_are_looked_up_by_code():
    scores = np.zeros((1, 51), np.float32)
    scores[0, 48] = 0.7  # G.O
    tiles = ClassifiedTiles(TileGrid(8, 8, tile=8), scores, np.ones(51), np.ones((1, 51, 4, 4), np.float32))
    cams = localise(tiles, GLAS)
    np.testing.assert_allclose(cams[1], 0.7)


def test_pixels_where_no_class_responds_are_counted():
    coarse, scores = np.zeros((1, 51, 4, 4), np.float32), np.zeros((1, 51), np.float32)
    transport = FUNC.outputs([4])
    coarse[0, transport, :2], scores[0, transport] = 1, 0.9
    tiles = ClassifiedTiles(TileGrid(16, 16, tile=16), scores, np.full(51, 0.5), coarse)
    ((_, segmented),) = segment(np.full((16, 16, 3), 100, np.uint8), tiles, [FUNC], {})
    unresponsive = segmented.masks["GradCAM"] == 2  # the first class that competes; it is absent
    assert segmented.unresponsive == unresponsive.mean() and 0 < unresponsive.mean() < 1 and unresponsive[-4:].all()
    absent = ClassifiedTiles(tiles.grid, np.zeros_like(scores), tiles.thresholds, coarse)
    ((_, segmented),) = segment(np.full((16, 16, 3), 100, np.uint8), absent, [FUNC], {})
    assert segmented.unresponsive == 1 and (segmented.masks["GradCAM"] == 2).all()
