"""Which weights of a file belong to which layer of a network: by names, by places in the model, or by their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..histonet import finish_weights
from .keras_graph import name_of
from .keras_json import MODELS, Network
from .tables import common_end
from .weights import PLACES, Arrays

if TYPE_CHECKING:
    import keras


def by_layer(description: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Return weights by the names of a description's layers, of a file that names them by their places in the model.

    Places are such as ``layers/conv2d_1``, the second of that class, and a number. `network_of` has built the network.
    """
    if not any(place.startswith(PLACES) for place in arrays):
        return arrays
    named: dict[str, dict[str, np.ndarray]] = {}

    def walk(model: Mapping[str, Any], place: str, path: tuple[str, ...]) -> None:
        counts: Counter[str] = Counter()
        entries = model["config"]["layers"] if isinstance(model["config"], dict) else model["config"]
        for entry in entries:
            kind, name = _snake_case(entry["class_name"]), name_of(entry)
            number, counts[kind] = counts[kind], counts[kind] + 1
            for attribute in PLACES:
                here = f"{place}{attribute}/{kind}{f'_{number}' if number else ''}"
                if entry["class_name"] in MODELS:
                    walk(entry, f"{here}/", (*path, name))
                for index, values in arrays.get(here, {}).items():
                    named.setdefault((*path, name)[0], {})["/".join((*path, name, index))] = values

    walk(description, "", ())
    return named


def _snake_case(name: str) -> str:
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def fill(network: Network, weights: Arrays, path: Path, described: Path) -> None:
    """Give a network its weights; `path` and `described` are the files of the weights and of the architecture.

    Raises InputError if they do not fit; it names the first layer in which they do not, and its shapes in both files.
    """
    groups = {name: layers for name, layers in network.groups.items() if layers}
    weights = {name: arrays for name, arrays in weights.items() if network.groups.get(name, True)}  # not of noise
    if weights.keys() == groups.keys():
        pairs = [(name, name) for name in groups]
    else:  # in the order of the layers, which may have been renamed
        pairs = zip_longest(groups, weights, fillvalue="(none)")
    for layer, name in pairs:
        wanted = [weight for _, each in groups.get(layer, ()) for weight in each.weights]
        values = _in_order(groups.get(layer, ()), weights.get(name, {}))
        if [tuple(weight.shape) for weight in wanted] != [array.shape for array in values]:
            raise InputError(
                f"{path} does not fit {described.name}: layer {layer} of the architecture has weights of "
                f"shape {_shapes(wanted)}, layer {name} of the file {_shapes(values)}; "
                "both files must come from the same model"
            )
        for weight, array in zip(wanted, values, strict=True):
            if "variance" in weight.name and array.min(initial=0) < 0:
                raise InputError(f"{path}: {weight.name} of layer {name} is negative; get the file again")
            weight.assign(array)
    finish_weights(network.model)


def _in_order(layers: Sequence[tuple[str, keras.Layer]], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return a group's arrays in the order of its layers' weights.

    Of a model within the model, Keras writes the weights that are trained first, and frozen ones later: arrays belong
    to the layer whose name theirs end in or, where names do not tell, are taken in that order.
    """
    if len(layers) < 2:
        return [*arrays.values()]
    places = [name.split("/") for name, _ in layers]
    shared: list[list[np.ndarray]] = [[] for _ in layers]
    for name, array in arrays.items():
        owner = name.split("/")[:-1]
        scores = [common_end(place, owner) for place in places]
        if max(scores):
            shared[scores.index(max(scores))].append(array)
    if [len(part) for part in shared] == [len(layer.weights) for _, layer in layers]:
        return [array for part in shared for array in part]
    wanted = [weight for _, layer in layers for weight in layer.weights]
    order = sorted(range(len(wanted)), key=lambda i: not wanted[i].trainable)
    found = dict(zip(order, arrays.values(), strict=False))
    return [found[i] for i in range(len(wanted)) if i in found] if len(arrays) == len(wanted) else [*arrays.values()]


def _shapes(arrays: list) -> str:
    return ", ".join(" x ".join(map(str, array.shape)) for array in arrays) or "none"
