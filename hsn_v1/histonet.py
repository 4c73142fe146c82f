"""HistoNet: a Keras network as the classifier of stage 1, with Grad-CAM's coarse maps as a second output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .errors import InputError
from .gradcam import (
    closed_form_weights,
    coarse_cams,
    feature_layer,
    gradient_weights,
    has_one_position,
    logit_layer,
    logit_weights,
    unit_weights,
    window_cams,
)
from .keras_start import import_keras
from .labels import Taxonomy
from .tiles import resize
from .views import Views

if TYPE_CHECKING:
    import keras


#: Precisions of the network's convolutions; weights, scores and maps are always float32.
PRECISIONS = ("float32", "bfloat16")

SOMEWHERE = 1e-4  #: lowest score of a tile with a class that is present in any of its windows


@dataclass(frozen=True)
class HistoNet:
    """A Keras patch classifier that also localises (a `classify.Classifier`); `of` makes one from a Keras model.

    Attributes
    ----------
    model : keras.Model
        Maps normalised tiles of shape (T, tile, tile, 3) to scores of shape (T, K).
    network : keras.Model
        The same, with a second output: coarse CAMs of shape (T, h, w, K), or the activations that they weigh.
    closed_form : bool
        Whether the second output is CAMs; if not, each tile's weights come from gradients.
    thresholds : ndarray of shape (K,), float64
        Lowest score of a class that is present.
    labels : Taxonomy
        Meaning of the outputs, and the training patches' scale, mean and standard deviation.
    precision : str
        One of `PRECISIONS`.
    window_thresholds : ndarray of shape (K,), float64, optional
        Lowest score of a class that is present in a window, if a tile's windows are localised (see `views.Views`).
    name : str
        The classifier's, in messages.
    """

    model: keras.Model
    network: keras.Model
    closed_form: bool
    thresholds: np.ndarray
    labels: Taxonomy
    precision: str = PRECISIONS[0]
    window_thresholds: np.ndarray | None = None
    name: str = ""
    #: The network as it is traced, by the side of the tiles; copies with other thresholds or views share it.
    _traced: dict[int, Callable[[np.ndarray], Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, model: keras.Model, thresholds: np.ndarray, labels: Taxonomy, precision: str = "float32", name: str = ""
    ) -> HistoNet:
        """Return a HistoNet of a copy of a Keras classifier that ends in sigmoids.

        Raises
        ------
        InputError
            If the model does not suit Grad-CAM, or the views of its class file.
        """
        # A Sequential model built by `add` has no definite tensors, but its clone has.
        clone = clone_with_weights(model, clone_function=in_bfloat16 if precision == "bfloat16" else None)
        return cls.around(clone, thresholds, labels, precision, name or model.name)

    @classmethod
    def around(
        cls, model: keras.Model, thresholds: np.ndarray, labels: Taxonomy, precision: str = "float32", name: str = ""
    ) -> HistoNet:
        """Return a HistoNet of a Functional model itself, not a copy; no other model may share its layers. See `of`."""
        keras, name = import_keras(), name or model.name
        try:
            second, weights = feature_layer(model).output, closed_form_weights(model)
        except ValueError as error:
            raise InputError(str(error)) from error
        logits = logit_layer(model)
        if weights is None and not (logits and has_one_position(logits)):
            last = next((layer for layer in reversed(model.layers) if layer.weights), model.layers[-1])
            activation = getattr(getattr(last, "activation", None), "__name__", "linear")
            raise InputError(
                f"model {name!r} gives no logits, which Grad-CAM needs: expected a dense layer at its end, or a "
                "convolution of 1 x 1 px to the classes, without activation where pooling follows; its last layer with "
                f"weights is the {type(last).__name__} {last.name!r}, with {activation} activation"
            )
        if labels.variant.unit_gradients:
            weights = unit_weights(model)
        constants = []
        if labels.views.window:
            weights, *constants = _local_weights(model)
        if weights is not None:  # the weighted sum of channels is a 1 x 1 convolution
            options = {"use_bias": bool(constants), "dtype": "float32", "name": "coarse_cams"}
            weigh = keras.layers.Conv2D(weights.shape[1], 1, **options)
            second = weigh(second)
            weigh.set_weights([weights[np.newaxis, np.newaxis], *constants])
        network = keras.Model(model.inputs[0], [model.outputs[0], second])
        check_scales(network, labels.views, name)
        present = np.full(len(thresholds), SOMEWHERE) if labels.views.window else thresholds
        return cls(model, network, weights is not None, present, labels, precision, thresholds, name)

    @property
    def tile(self) -> int:
        """Side of the tiles, in px."""
        return self.model.input_shape[1]

    @property
    def mpp(self) -> float:
        """Scale of the training patches, in microns per pixel."""
        return self.labels.mpp

    @cached_property
    def identity(self) -> str:
        """Digest of the weights, the thresholds, the classes and the precision."""
        digest = hashlib.sha256(self.thresholds.tobytes())
        for weights in self.model.get_weights():
            digest.update(weights.tobytes())
        if self.labels.views.window:
            digest.update(self.window_thresholds.tobytes())
        digest.update(repr((self.labels, self.precision)).encode())
        return digest.hexdigest()

    def activations(self, tiles: np.ndarray) -> np.ndarray:
        """Return the last activations with positions: A in `gradcam`.

        Parameters
        ----------
        tiles : ndarray of shape (T, tile, tile, 3), float32, in 0..255

        Returns
        -------
        ndarray of shape (T, h, w, C), float32
        """
        to_features = import_keras().Model(self.model.inputs[0], feature_layer(self.model).output)
        return np.asarray(to_features(normalise(tiles, self.labels), training=False), np.float32)

    def channel_weights(self, tiles: np.ndarray) -> np.ndarray:
        """Return Grad-CAM's weights of the activations' channels for each output: alpha in `gradcam`.

        Parameters
        ----------
        tiles : ndarray of shape (T, tile, tile, 3), float32, in 0..255

        Returns
        -------
        ndarray of shape (K, C) or, if they differ between images, (T, K, C), float32
        """
        weights = unit_weights(self.model) if self.labels.variant.unit_gradients else closed_form_weights(self.model)
        return gradient_weights(self.model, normalise(tiles, self.labels)) if weights is None else weights

    def with_thresholds(self, thresholds: float | np.ndarray) -> HistoNet:
        """Return this classifier with other thresholds: one for each output, or one for all."""
        thresholds = np.broadcast_to(np.float64(thresholds), self.thresholds.shape)
        of_tiles = self.thresholds if self.labels.views.window else thresholds
        return replace(self, thresholds=of_tiles, window_thresholds=thresholds)

    def with_views(self, **changes: Any) -> HistoNet:
        """Return this classifier with other views; `changes` are fields of `views.Views` except `window`."""
        views = replace(self.labels.views, **changes)
        check_scales(self.network, views, self.name)
        return replace(self, labels=replace(self.labels, views=views))

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score tiles, and sum their weighted activations to a coarse CAM per class; average both over all views.

        If the windows of a tile are localised, the tile's score is the maximum of its CAM.

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
            If a score or CAM is not finite, since no mask may come of it.
        """
        tiles = normalise(tiles, self.labels)
        scores, cams = self._look(tiles) if self.labels.views.once else self._look_often(tiles)
        if self.labels.views.window:
            scores = cams.max(axis=(2, 3))
        if not (np.isfinite(scores).all() and np.isfinite(cams).all()):
            why = "its weights are too large or too small; train it again, or use another"
            raise InputError(f"model {self.name!r} gives scores or maps that are not finite: {why}")
        return scores, cams

    def _look(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and coarse CAMs of normalised tiles of any side."""
        side = tiles.shape[1]
        if side not in self._traced:
            self._traced[side] = traced(self.network if side == self.tile else network_of_side(self.network, side))
        scores, second = self._traced[side](tiles)
        scores = scores.astype(np.float32)  # a network may compute in half precision
        if self.labels.views.window:
            cells = max(round(self.labels.views.window * second.shape[1] / side), 1)
            second = window_cams(second, self.window_thresholds, cells)
        if self.closed_form:
            return scores, np.ascontiguousarray(second.transpose(0, 3, 1, 2))
        return scores, coarse_cams(second.astype(np.float32), gradient_weights(self.model, tiles))

    def _look_often(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and coarse CAMs averaged over all views; the CAMs have the size of the largest view's."""
        views, cell = self.labels.views, cell_of(self.network)
        sides = views.sides(self.tile, cell)
        finest = max(sides) // cell
        scores, cams = np.float32(0), np.float32(0)
        for side in sides:
            scaled = resized_tiles(tiles, side)
            maps = np.float32(0)
            for turn, turn_back in views.turns():
                score, coarse = self._look(np.ascontiguousarray(turn(scaled)))
                scores = scores + score / views.count
                maps = maps + turn_back(coarse.transpose(0, 2, 3, 1)) / views.count
            cams = cams + np.stack([resize(coarse, finest, finest) for coarse in maps.transpose(0, 3, 1, 2)])
        return scores, cams


def cell_of(network: keras.Model) -> int:
    """Return the side of one position (a cell) of the coarse CAMs, in px of a tile."""
    return network.input_shape[1] // network.output_shape[1][1]


def check_scales(network: keras.Model, views: Views, name: str) -> None:
    """Raise InputError if the views have another scale than 1, but the network flattens its maps to a fixed size."""
    tile = network.input_shape[1]
    pools = any(type(layer).__name__ == "Flatten" for layer in network.layers)
    if pools and {*views.sides(tile, cell_of(network))} != {tile}:
        advice = "give 1 as the only one of `scales`, or use a model with global pooling"
        raise InputError(f"model {name!r} sees tiles at one scale only: its pooling is for {tile} px; {advice}")


def network_of_side(network: keras.Model, side: int) -> keras.Model:
    """Return a copy of a network, with the same weights, for tiles of another side."""
    return clone_with_weights(network, input_tensors=import_keras().Input((side, side, 3)))


def traced(network: keras.Model) -> Callable[[np.ndarray], Any]:
    """Return a function that applies a network to tiles (T, side, side, 3), and returns its outputs as arrays.

    It is traced once, for any number of tiles: Keras' `predict_on_batch` is traced again for another number.
    """
    import tensorflow as tf

    tiles = tf.TensorSpec((None, *network.input_shape[1:]))
    graph = tf.function(partial(network, training=False), [tiles], autograph=False)  # not by XLA: that takes too long
    return lambda tiles: tf.nest.map_structure(lambda tensor: tensor.numpy(), graph(tiles))


def resized_tiles(tiles: np.ndarray, side: int) -> np.ndarray:
    """Resize tiles (T, h, w, 3) to (T, side, side, 3)."""
    if tiles.shape[1] == side:
        return tiles
    how = cv2.INTER_AREA if side < tiles.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(tile, (side, side), interpolation=how) for tile in tiles])


def _local_weights(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    weights = logit_weights(model)
    if weights is None:
        raise InputError(
            f"model {model.name!r} has no score for each place of a tile: `window` needs a network that ends in global "
            "average pooling and one dense layer; remove it from the class file's [views]"
        )
    return weights


def clone_with_weights(model: keras.Model, **options: object) -> keras.Model:
    """Clone a model with its weights; the options are those of ``keras.models.clone_model``."""
    clone = import_keras().models.clone_model(model, **options)
    clone.set_weights(model.get_weights())
    finish_weights(clone)
    return clone


def finish_weights(model: keras.Model) -> None:
    """Put weights that were set into effect: `Normalization` takes over its statistics only in `finalize_state`."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def in_bfloat16(layer: keras.Layer) -> keras.Layer:
    """Return a copy of a layer that computes in bfloat16, or in float32 in the head, as logits and scores need."""
    head = type(layer).__name__ in ("Dense", "InputLayer") or len(layer.output.shape) == 2
    return type(layer).from_config({**layer.get_config(), "dtype": "float32" if head else "mixed_bfloat16"})


def normalise(tiles, labels: Taxonomy):
    """Standardise tiles, a float32 array or a tensor, by the training patches' mean and standard deviation."""
    return (tiles - np.float32(labels.mean)) / np.float32(np.add(labels.std, 1e-7))
