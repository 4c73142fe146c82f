"""Fit a linear layer on a frozen encoder: features are computed once, then logistic regression takes seconds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..gradcam import feature_layer
from ..histonet import network_of_side, normalise, resized_tiles, traced
from ..keras_start import import_keras
from ..labels import Taxonomy

if TYPE_CHECKING:
    import keras

    from .training_data import LabelledPatches, TrainingData

STRENGTHS = (3e-3, 3e-2, 0.1, 0.3)  #: values of `LogisticRegression`'s C to try: a greater one regularises less
AS_WELL = 0.01  #: validation AUC that a greater C may cost: it makes better maps, if not better patch labels


@dataclass(frozen=True)
class LinearLayer:
    """A dense layer from K' features to the logits of K classes, with sigmoids."""

    kernel: np.ndarray  #: (K', K) float32
    bias: np.ndarray  #: (K,) float32

    @classmethod
    def blank(cls, features: int, classes: int) -> LinearLayer:
        """Return a layer of zeros: every score is 0.5."""
        return cls(np.zeros((features, classes), np.float32), np.zeros(classes, np.float32))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the scores, (N, K) float32 in 0..1, of features (N, K')."""
        return 1 / (1 + np.exp(-(features @ self.kernel + self.bias)))


def pooled_features(
    encoder: keras.Model,
    images: np.ndarray,
    labels: Taxonomy,
    context: float = 0,
    batch: int = 32,
    look: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Return the encoder's activations, averaged over each patch without its margin, as (N, K') float32.

    The encoder maps normalised patches (N, S, S, 3) to activations (N, h, w, K'). `images`, (N, side, side, 3) uint8,
    are resized to S and normalised by the mean and standard deviation of `labels`. `context` is the width of the
    margin, in px of the encoder's input. `look` is the `traced` encoder, if there is one already.
    """
    shares, look = _shares(encoder, context), look or traced(encoder)
    steps = (images[start : start + batch] for start in range(0, len(images), batch))
    tiles = (resized_tiles(normalise(step.astype(np.float32), labels), encoder.input_shape[1]) for step in steps)
    activations = map(look, tiles)
    return np.concatenate([np.einsum("nhwk,h,w->nk", maps, shares, shares, optimize=True) for maps in activations])


def _shares(encoder: keras.Model, context: float) -> np.ndarray:
    """Return the weight of each position along an axis in the mean; positions partly in the margin count in part."""
    side, cells = encoder.input_shape[1], encoder.output_shape[1]
    ends = np.linspace(0, side, cells + 1).clip(context, side - context)
    return np.diff(ends) / (side - 2 * context)


def without_margin(model: keras.Model, context: float) -> keras.Model:
    """Return a network that shares the model's layers, but leaves the margin out of global pooling, for training."""
    keras = import_keras()
    encoder = keras.Model(model.inputs[0], feature_layer(model).output)
    shares = _shares(encoder, context)
    weights = np.float32(np.outer(shares, shares))[np.newaxis, ..., np.newaxis]
    pooled = keras.ops.sum(encoder.outputs[0] * weights, axis=(1, 2))
    return keras.Model(model.inputs[0], keras.ops.sigmoid(_dense(model)(pooled)), name=model.name)


def _dense(model: keras.Model) -> keras.Layer:
    return next(layer for layer in model.layers if type(layer).__name__ == "Dense")


def fit_linear_layer(train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> LinearLayer:
    """Fit a balanced logistic regression for each class, regularised as little as the validation patches allow.

    `train` and `validation` are features, (N, K'), with targets, (N, K) of 0 or 1. A class that all or none of the
    training patches have gets a constant score.
    """
    features, targets = train
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-3
    scaled, judged = ((part - mean) / std for part in (features, validation[0]))
    columns = [
        _fit_class(scaled, target > 0, judged, truth > 0)
        for target, truth in zip(targets.T, validation[1].T, strict=True)
    ]
    kernel = np.stack([weights for weights, _ in columns], axis=1) / std[:, np.newaxis]
    bias = np.array([constant for _, constant in columns]) - mean @ kernel
    return LinearLayer(kernel.astype(np.float32), bias.astype(np.float32))


def fit_dense(model: keras.Model, data: TrainingData) -> np.ndarray:
    """Fit the dense layer of a network and keep its other layers; return the scores of the validation patches.

    `model` ends in global average pooling and this layer. The patches' margins are part of the input, but not of the
    average. Scores are (N, K) float32 in 0..1, averaged over scales.
    """
    encoder = import_keras().Model(model.inputs[0], feature_layer(model).output)
    side = encoder.input_shape[1]
    sides = data.labels.views.sides(side, side // encoder.output_shape[1])
    encoders = [encoder if s == side else network_of_side(encoder, s) for s in sides]
    looks = [traced(network) for network in encoders]  # for training and validation patches

    def features(part: LabelledPatches) -> tuple[np.ndarray, np.ndarray]:
        """Return the patches' features and targets at all scales, concatenated scale by scale."""
        contexts = [data.context * view_side / side for view_side in sides]
        pooled = [
            pooled_features(network, part.images, data.labels, context, look=look)
            for network, context, look in zip(encoders, contexts, looks, strict=True)
        ]
        return np.concatenate(pooled), np.concatenate([part.targets] * len(encoders))

    validation = features(data.validation)
    layer = fit_linear_layer(features(data.train), validation)
    _dense(model).set_weights([layer.kernel, layer.bias])
    return layer(validation[0]).reshape(len(encoders), len(data.validation), -1).mean(axis=0)


def _fit_class(
    features: np.ndarray, target: np.ndarray, judged: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return weights and intercept of the greatest C in `STRENGTHS` that costs at most `AS_WELL` of validation AUC."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    if target.all() or not target.any():
        return np.zeros(features.shape[1], np.float32), 6.0 if target.all() else -6.0
    model = LogisticRegression(class_weight="balanced", max_iter=300, warm_start=True)
    kept, highest, judges = None, 0.0, 0 < truth.mean() < 1
    for strength in STRENGTHS if judges else STRENGTHS[:1]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early regularises, too
            model.set_params(C=strength).fit(features, target)
        area = roc_auc_score(truth, judged @ model.coef_[0]) if judges else 1.0
        highest = max(highest, area)
        if area < highest - AS_WELL:
            break
        kept = model.coef_[0].copy(), float(model.intercept_[0])
    return kept


def with_linear_layer(encoder: keras.Model, layer: LinearLayer) -> keras.Model:
    """Return a classifier: the encoder, average pooling, the layer and sigmoids; its Grad-CAM has a closed form."""
    keras = import_keras()
    pooled = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d_1")(encoder.outputs[0])
    dense = keras.layers.Dense(len(layer.bias), name="dense_1")
    scores = keras.layers.Activation("sigmoid", name="scores")(dense(pooled))
    dense.set_weights([layer.kernel, layer.bias])
    return keras.Model(encoder.inputs[0], scores, name=encoder.name)
