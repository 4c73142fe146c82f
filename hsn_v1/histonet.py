"""HistoNet: a Keras network as the classifier of stage 1, with Grad-CAM's coarse maps as its second output."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .gradcam import (
    closed_form_weights,
    coarse_cams,
    feature_layer,
    gradient_weights,
    logit_layer,
    unit_weights,
)
from .keras_start import import_keras
from .labels import Taxonomy

if TYPE_CHECKING:
    import keras


#: How the network's convolutions compute; weights, scores and maps are float32 in any case.
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class HistoNet:
    """A patch classifier, ready to score and localise (a `classify.Classifier`); `of` makes one from a Keras model.

    Attributes
    ----------
    model : keras.Model
        Normalised tiles of shape (T, tile, tile, 3) to scores of shape (T, K).
    network : keras.Model
        The same, with a second output: coarse CAMs of shape (T, h, w, K), or the activations that they weigh.
    closed_form : bool
        Whether the second output is CAMs; else gradients tell each tile's weights.
    thresholds : ndarray of shape (K,), float64
        Score from which on a class is present.
    labels : Taxonomy
        What the outputs mean, and the training patches' scale, mean and standard deviation.
    precision : str
        One of `PRECISIONS`.
    """

    model: keras.Model
    network: keras.Model
    closed_form: bool
    thresholds: np.ndarray
    labels: Taxonomy
    precision: str = PRECISIONS[0]

    @classmethod
    def of(
        cls, model: keras.Model, thresholds: np.ndarray, labels: Taxonomy, precision: str = PRECISIONS[0]
    ) -> HistoNet:
        """Return a HistoNet around a Keras classifier that ends in sigmoids.

        Raises
        ------
        InputError
            If Grad-CAM cannot be taken of it.
        """
        keras = import_keras()
        lower = _in_bfloat16 if precision == "bfloat16" else None
        # A Sequential that grew by `add` has no definite tensors, but its clone has.
        clone = keras.models.clone_model(model, clone_function=lower)
        copy_weights(model, clone)
        try:
            second, weights = feature_layer(clone).output, closed_form_weights(clone)
        except ValueError as error:
            raise InputError(str(error)) from error
        if weights is None and type(logit_layer(clone)).__name__ != "Dense":
            raise InputError(f"model {model.name!r} has no dense layer: Grad-CAM needs the logits that one gives")
        if weights is None and keras.backend.backend() != "tensorflow":
            raise InputError(
                f"model {model.name!r} needs gradients for its Grad-CAM, which are taken with TensorFlow only: "
                "set KERAS_BACKEND=tensorflow, or use a model that ends in global pooling and one dense layer"
            )
        if labels.variant.unit_gradients:
            weights = unit_weights(clone)
        if weights is not None:  # the weighted sum of channels is a convolution of one pixel
            weigh = keras.layers.Conv2D(weights.shape[1], 1, use_bias=False, dtype="float32", name="coarse_cams")
            second = weigh(second)
            weigh.set_weights([weights[np.newaxis, np.newaxis]])
        network = keras.Model(clone.inputs[0], [clone.outputs[0], second])
        network.compile(jit_compile=False)  # compiling by XLA takes longer than a run
        return cls(clone, network, weights is not None, thresholds, labels, precision)

    @property
    def tile(self) -> int:
        """Side of the tiles, in px."""
        return self.model.input_shape[1]

    @property
    def mpp(self) -> float:
        """Scale at which it knows tissue, in microns per pixel."""
        return self.labels.mpp

    @cached_property
    def identity(self) -> str:
        """A digest of the weights, the thresholds, the classes and the precision."""
        digest = hashlib.sha256(self.thresholds.tobytes())
        for weights in self.model.get_weights():
            digest.update(weights.tobytes())
        digest.update(repr((self.labels, self.precision)).encode())
        return digest.hexdigest()

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score tiles, and weigh their activations into a coarse CAM per class.

        Parameters
        ----------
        tiles : ndarray of shape (T, tile, tile, 3), float32, in 0..255

        Returns
        -------
        scores : ndarray of shape (T, K), float32, in 0..1
        cams : ndarray of shape (T, K, h, w), float32

        Raises
        ------
        InputError
            If a score or CAM is not finite: no mask may come of it.
        """
        tiles = normalise(tiles, self.labels)
        scores, second = self.network.predict_on_batch(tiles)
        scores = scores.astype(np.float32)  # a network may compute in half precision
        if self.closed_form:
            cams = np.ascontiguousarray(second.transpose(0, 3, 1, 2))
        else:
            cams = coarse_cams(second.astype(np.float32), gradient_weights(self.model, tiles))
        if not (np.isfinite(scores).all() and np.isfinite(cams).all()):
            raise InputError(
                f"model {self.model.name!r} gives scores or maps that are not finite: its weights are too large or too "
                "small; train it again, or use another"
            )
        return scores, cams


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give a model the weights of another one of the same layers."""
    target.set_weights(source.get_weights())
    finish_weights(target)


def finish_weights(model: keras.Model) -> None:
    """Make a model compute by the weights that it was given: `Normalization` takes its statistics when told to."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _in_bfloat16(layer: keras.Layer) -> keras.Layer:
    """Return a layer that computes in bfloat16, unless it is of the head: logits and scores need float32."""
    head = type(layer).__name__ in ("Dense", "InputLayer") or len(layer.output.shape) == 2
    return type(layer).from_config({**layer.get_config(), "dtype": "float32" if head else "mixed_bfloat16"})


def normalise(tiles, labels: Taxonomy):
    """Subtract the training patches' mean and divide by their standard deviation: a float32 array, or a tensor."""
    return (tiles - np.float32(labels.mean)) / np.float32(np.add(labels.std, 1e-7))
