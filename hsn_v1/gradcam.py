"""Stage 2: Grad-CAM, which shows where in a tile the classifier sees a class (Selvaraju et al., ICCV 2017).

With ``A`` the last activations (h x w, K channels) and ``y_c`` the logit of class c::

    CAM_c = sum_k alpha_kc * A_k        alpha_kc = mean over positions of dy_c / dA_k

Where only batch norm, pooling and one dense layer ``W`` follow ``A``, each channel's gradient adds up to
``W_kc * gamma_k / sqrt(var_k + eps)`` wherever pooling sends it, so that ``alpha`` is this over ``h * w``
whatever the image: one forward pass gives the maps of all classes, and no backward pass is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.special import expit

from .classify import ClassifiedTiles
from .labels import LabelSet
from .tiles import Window, resize

if TYPE_CHECKING:
    import keras

POOLING = ("MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D")

#: Layers that pass on each channel's gradient in full; batch norm multiplies it by a constant.
PASSING = frozenset({"BatchNormalization", "Dropout", "Flatten", *POOLING})

#: Layers that may follow the logits.
SCORING = frozenset({"Activation", "Dropout", "Reshape"})


def feature_layer(model: keras.Model) -> keras.Layer:
    """Return the layer whose output Grad-CAM weighs: the last one with a map as output, `PASSING` layers aside.

    The search goes backwards from the layer that gives the logits, through batch norm, dropout, pooling and flattening.
    Layers before the result may branch.

    Raises
    ------
    ValueError
        If the model has no layer with a two-dimensional map as output, or several paths lead on from it.
    """
    last = layer = logit_layer(model) or model.layers[-1]
    if _kind(layer) == "Conv2D":
        layer = _before(layer)
    while layer and (_kind(layer) in PASSING or not _has_positions(layer)):
        last, layer = layer, _before(layer)
    if layer is None and isinstance(last.input, list):
        raise ValueError(
            f"model {model.name!r} joins {len(last.input)} layers in {last.name!r}, behind its last maps: Grad-CAM "
            "needs one path from there to the scores, such as one global pooling and one dense layer"
        )
    if layer is None or _kind(layer) == "InputLayer":
        raise ValueError(
            f"model {model.name!r} has no layer with a map as output: Grad-CAM needs a convolutional network"
        )
    return layer


def logit_layer(model: keras.Model) -> keras.Layer | None:
    """Return the layer that gives the logits: the last dense layer or 1 x 1 convolution to the outputs; else None."""
    with_weights = [layer for layer in model.layers if _kind(layer) == "Dense" or _is_class_convolution(model, layer)]
    return with_weights[-1] if with_weights else None


def _is_class_convolution(model: keras.Model, layer: keras.Layer) -> bool:
    """Tell whether a layer is a 1 x 1 convolution to the outputs, before pooling (a CAM network) or after it."""
    if _kind(layer) != "Conv2D" or layer.kernel_size != (1, 1) or layer.filters != model.output_shape[-1]:
        return False
    after = {_kind(follower) for follower in _chain(model, layer)}
    if has_one_position(layer):
        return bool(after) and not after - SCORING - {"Flatten"}
    return layer.activation.__name__ == "linear" and bool(after) and not after - PASSING - SCORING


def has_one_position(layer: keras.Layer) -> bool:
    """Tell whether a layer's output has one position, that is one value per channel."""
    return layer.output.shape[1:-1] in ((), (1, 1))


def closed_form_weights(model: keras.Model) -> np.ndarray | None:
    """Return Grad-CAM's channel weights if the architecture makes them the same for every image.

    Parameters
    ----------
    model : keras.Model
        Classifier of images of shape (height, width, 3).

    Returns
    -------
    ndarray of shape (K, C), float32, or None
        None if other layers than batch norm, pooling down to one position and one dense layer
        follow the activations; use `gradient_weights` then.
    """
    features = feature_layer(model)
    head = _chain(model, features)
    kinds, logits = [_kind(layer) for layer in head], logit_layer(model)
    if logits not in head or kinds.count("Dense") > 1:
        return None
    end = head.index(logits)
    height, width, channels = features.output.shape[1:]
    kernel = _weights(logits)["kernel"]
    kernel = kernel.reshape(-1, kernel.shape[-1])
    after = SCORING if kinds[end] == "Dense" else SCORING | PASSING - {"BatchNormalization"}
    one_position = len(kernel) == channels
    if not one_position or set(kinds[:end]) - PASSING or set(kinds[end + 1 :]) - after:
        return None
    scale = np.ones(channels)
    for norm in (layer for layer in head[:end] if _kind(layer) == "BatchNormalization"):
        weights = _weights(norm)
        scale *= weights.get("gamma", 1) / np.sqrt(weights["moving_variance"] + norm.epsilon)
    return (scale[:, np.newaxis] * kernel / (height * width)).astype(np.float32)


def logit_weights(model: keras.Model) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the weights and biases of the logits of single positions; their mean over a tile is the tile's logit.

    Parameters
    ----------
    model : keras.Model
        Classifier of images of shape (height, width, 3).

    Returns
    -------
    (ndarray of shape (K, C), ndarray of shape (C,)), float32, or None
        Weights and biases; None if other layers than global average pooling and one dense layer follow the activations.
    """
    head = [layer for layer in _chain(model, feature_layer(model)) if _kind(layer) not in ("Dropout", "Activation")]
    if [_kind(layer) for layer in head] != ["GlobalAveragePooling2D", "Dense"]:
        return None
    weights = _weights(head[1])
    return weights["kernel"], weights.get("bias", np.zeros(weights["kernel"].shape[1], np.float32))


def _kind(layer: keras.Layer) -> str:
    return type(layer).__name__


def _has_positions(layer: keras.Layer) -> bool:
    return len(layer.output.shape) == 4 and layer.output.shape[1:3] != (1, 1)


def _weights(layer: keras.Layer) -> dict[str, np.ndarray]:
    return {weight.name: values for weight, values in zip(layer.weights, layer.get_weights(), strict=True)}


def _before(layer: keras.Layer) -> keras.Layer | None:
    """Return the layer that feeds a layer; None if there is none, or if there are several."""
    origin = getattr(layer.input, "_keras_history", None) if not isinstance(layer.input, list) else None
    return origin.operation if origin and origin.operation is not layer else None


def _chain(model: keras.Model, first: keras.Layer) -> list[keras.Layer]:
    """Return the layers from after `first` to the model's output; an empty list if they branch."""
    wanted, layers = model.outputs[0], []
    layer = next((layer for layer in reversed(model.layers) if layer.output is wanted), None)
    while layer and layer is not first:
        layers.append(layer)
        layer = _before(layer)
    return layers[::-1] if layer is first else []


def gradient_weights(model: keras.Model, tiles: np.ndarray) -> np.ndarray:
    """Return Grad-CAM's channel weights of each tile by automatic differentiation (TensorFlow backend only).

    Parameters
    ----------
    model : keras.Model
        Any Keras classifier whose last layer with weights is dense.
    tiles : ndarray of shape (T, height, width, 3), float32
        Normalised.

    Returns
    -------
    ndarray of shape (T, K, C), float32
    """
    return np.stack([gradient.mean(axis=(1, 2)) for gradient in _logit_gradients(model, tiles)], axis=-1)


def _logit_gradients(model: keras.Model, tiles: np.ndarray) -> list[np.ndarray]:
    """Return the gradient of each of C logits with respect to the activations, (T, h, w, K) float32."""
    import keras
    import tensorflow as tf

    layer, last = feature_layer(model), logit_layer(model)
    features = keras.Model(model.inputs[0], layer.output)(tiles, training=False)
    head = keras.Model(layer.output, last.input)  # the layers before the activations are not differentiated
    kernel = tf.reshape(last.kernel, (-1, last.kernel.shape[-1]))  # a convolution's is (1, 1, channels, outputs)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        hidden = head(features, training=False)
        hidden = tf.reshape(tf.cast(hidden, tf.float32), (len(tiles), -1))
        logits = tf.unstack(tf.matmul(hidden, kernel), axis=-1)  # a bias has no gradient
    return [tape.gradient(logit, features).numpy() for logit in logits]


def unit_weights(model: keras.Model) -> np.ndarray:
    """Average each logit's gradient at an all-zero tile over positions, divided by its root mean square.

    These weights of the authors' later code are the same for every image (IJCV 2020; docs/method.md, "Variants").

    Parameters
    ----------
    model : keras.Model
        Any Keras classifier whose last layer with weights is dense (TensorFlow backend only).

    Returns
    -------
    ndarray of shape (K, C), float32
    """
    gradients = _logit_gradients(model, np.zeros((1, *model.input_shape[1:]), np.float32))  # C times (1, h, w, K)
    return np.stack([g[0].mean(axis=(0, 1)) / (np.sqrt(np.mean(g**2)) + 1e-5) for g in gradients], axis=-1)


def coarse_cams(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum the weighted channels of the activations: Grad-CAM before resizing and rectifying.

    Parameters
    ----------
    features : ndarray of shape (T, h, w, K), float32
    weights : ndarray of shape (K, C) or (T, K, C), float32

    Returns
    -------
    ndarray of shape (T, C, h, w), float32
    """
    tiles, height, width, channels = features.shape
    cams = features.reshape(tiles, height * width, channels) @ weights  # (T, h * w, C)
    return np.ascontiguousarray(cams.swapaxes(1, 2)).reshape(tiles, -1, height, width)


def window_cams(logits: np.ndarray, thresholds: np.ndarray, cells: int) -> np.ndarray:
    """Return the mean of the Grad-CAMs of all windows around each position, from the logits of the positions.

    With average pooling, a window's logit is the mean of its positions' logits. One pass over a tile thus gives the
    scores and Grad-CAMs of a window at each position, as if it were a tile that also sees its surroundings.

    Parameters
    ----------
    logits : ndarray of shape (T, h, w, K), float32
        See `logit_weights`.
    thresholds : ndarray of shape (K,)
        Lowest score of a class that is present in a window.
    cells : int
        Side of a window, in positions.

    Returns
    -------
    ndarray of shape (T, h, w, K), float32, in 0..1
    """
    size = (1, cells, cells, 1)
    scores = expit(uniform_filter(logits, size, mode="nearest"))
    positive = np.maximum(logits, 0)
    highest = np.maximum(maximum_filter(positive, size, mode="nearest"), 1e-3)
    return positive * uniform_filter(np.where(scores >= thresholds, scores, 0) / highest, size, mode="nearest")


def grad_cams(coarse: np.ndarray, scores: np.ndarray, size: int, highest: float | None = None) -> np.ndarray:
    """Turn a tile's coarse CAMs into Grad-CAMs: resize, rectify, divide by the maximum, and multiply by the score.

    Parameters
    ----------
    coarse : ndarray of shape (C, h, w), float32
    scores : ndarray of shape (C,), float32, in 0..1
    size : int
        Side of the tile in px.
    highest : float, optional
        Divisor of all maps; each map's own maximum, if left out. It is at least 1e-7.

    Returns
    -------
    ndarray of shape (C, size, size), float32, in 0..1
    """
    cams = np.maximum(resize(coarse, size, size), 0)
    divisor = cams.max(axis=(1, 2), keepdims=True) if highest is None else highest
    return cams / np.maximum(divisor, 1e-7) * scores[:, np.newaxis, np.newaxis]


def localise(tiles: ClassifiedTiles, label_set: LabelSet, window: Window | None = None) -> np.ndarray:
    """Map each class of a label set over an image (docs/method.md, stage 2).

    Parameters
    ----------
    tiles : ClassifiedTiles
        A class that is absent from a tile has a map of 0 there.
    label_set : LabelSet
    window : Window, optional
        Part of the image to map; the whole image, if left out.

    Returns
    -------
    ndarray of shape (C, H, W), float32, in 0..1
    """
    present, side = tiles.present(label_set), tiles.grid.tile  # (T, C)
    somewhere = np.flatnonzero(present.any(axis=0))

    def tile_cams(tile: int) -> np.ndarray:
        cams = np.zeros((len(somewhere), side, side), np.float32)
        here = present[tile, somewhere]
        outputs = label_set.outputs(somewhere[here])
        highest = tiles.highest[tile] if label_set.variant.shared_maximum else None
        cams[here] = grad_cams(tiles.cams[tile, outputs], tiles.scores[tile, outputs], side, highest)
        return cams

    stitched = tiles.grid.stitch(tile_cams, window)
    cams = np.zeros((len(label_set), *stitched.shape[1:]), np.float32)
    cams[somewhere] = stitched
    return cams
