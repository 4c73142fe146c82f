"""A classifier's architecture: from JSON, as Keras 2 or 3 writes it, to a Keras model, layer by layer.

Keras' own readers are not used: they build whatever a file names. See `layers` for what may be built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .keras_layers import LAYERS, arguments_of, check_class, check_name, cost, shown
from .reading import line_of, read_bytes

if TYPE_CHECKING:
    import keras

LONGEST = 16 << 20  #: bytes of a JSON file
MOST_LAYERS = 2_000
MOST_WEIGHTS = 200_000_000  #: in a model: 0.8 GB
MOST_VALUES = 1 << 26  #: in the output of a layer, for one tile: 0.27 GB
MOST_PRODUCTS = 1 << 38  #: for one tile: some seconds
DEEPEST = 4  #: models within models

MODELS = ("Sequential", "Functional", "Model")  #: the last is Keras 2's name of the second


def read_architecture(path: Path) -> dict[str, Any]:
    """Return what a ``.json`` file says of a Keras model, or raise InputError."""
    content = read_bytes(path, LONGEST)
    try:
        description = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({line_of(error)}); get the file again") from error
    if not isinstance(description, dict) or not isinstance(description.get("config"), (dict, list)):
        raise InputError(f"{path}: not the architecture of a Keras model; expected what model.to_json() writes")
    return description


def build_model(keras: ModuleType, description: Mapping[str, Any], source: Path) -> keras.Model:
    """Build a model from what `read_architecture` returns.

    Parameters
    ----------
    keras : module
    description : mapping
        A Sequential, also as the bare list of layers that Keras 2.2 wrote, or a Functional whose layers are each used
        once. Nothing in it is trusted.
    source : Path
        Names the file in errors.

    Returns
    -------
    keras.Model
        With random weights, one input and one output.

    Raises
    ------
    InputError
        If a layer or argument is not allowed, if the model would need too much memory or time, or if it cannot be
        built for any other reason.
    """
    return _Builder(keras, str(source)).model({"name": "histonet", **description}, str(source), depth=1)


def portable(description: Mapping[str, Any], source: str = "model") -> dict[str, Any]:
    """Return a description with nothing but what `build_model` needs, so that every version of Keras 3 can read it."""
    config = description["config"]
    layers = []
    for entry in config["layers"]:
        inner, where = entry["config"], f"{source}: layer {shown(entry['config'].get('name'))}"
        if entry["class_name"] in MODELS:
            slim = portable(entry, where)
        elif entry["class_name"] == "InputLayer":
            slim = {**_class_of(entry), "config": {key: inner[key] for key in ("name", "batch_shape")}}
        else:
            slim = {**_class_of(entry), "config": arguments_of(where, entry["class_name"], inner)}
        layers.append({**slim, **{key: entry[key] for key in ("name", "inbound_nodes") if key in entry}})
    ends = {key: config[key] for key in ("input_layers", "output_layers") if key in config}
    return {**_class_of(description), "config": {"name": config["name"], "layers": layers, **ends}}


def _class_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("module", "class_name", "registered_name") if key in entry}


@dataclass
class _Builder:
    """Builds a model and those within it, and counts what they need together."""

    keras: ModuleType
    source: str
    layers: int = 0
    weights: int = 0
    products: int = 0

    def model(self, entry: Mapping[str, Any], where: str, depth: int) -> keras.Model:
        """Build a model; `depth` counts the models around it."""
        if depth > DEEPEST:
            raise InputError(f"{where}: {DEEPEST} models within each other; expected fewer")
        kind, config = check_class(where, entry, MODELS), entry["config"]
        if isinstance(config, list):
            config = {"layers": config}
        entries = config.get("layers")
        if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
            raise InputError(f"{where}: has no list of layers with class_name and config")
        self.spend(where, layers=len(entries))
        if kind == "Sequential":
            start, end = self.sequential(entries, config, where, depth)
        else:
            start, end = self.functional(entries, config, where, depth)
        return self.keras.Model(start, end, name=check_name(where, config.get("name", entry.get("name"))))

    def sequential(self, entries: list, config: Mapping, where: str, depth: int) -> tuple:
        """Chain layers; the tiles' shape is that of an InputLayer or, in Keras 2, of the first layer."""
        first = entries[0]["config"]
        shape = first.get("batch_shape", first.get("batch_input_shape", config.get("build_input_shape")))
        if entries[0]["class_name"] == "InputLayer":
            entries = entries[1:]
        start = tensor = self.entrance(shape, where)
        names = set()
        for entry in entries:
            name = self.name_of(entry, where)
            if name in names:
                raise InputError(f"{where}: two layers have the name {shown(name)}")
            names.add(name)
            tensor = self.applied(entry, [tensor], name, depth)
        return start, tensor

    def functional(self, entries: list, config: Mapping, where: str, depth: int) -> tuple:
        """Connect layers as their inbound nodes say."""
        waiting, tensors = {}, {}
        for entry in entries:
            name = self.name_of(entry, where)
            if name in waiting or name in tensors:
                raise InputError(f"{where}: two layers have the name {shown(name)}")
            if entry["class_name"] == "InputLayer":
                inner = entry["config"]
                tensors[name] = self.entrance(inner.get("batch_shape", inner.get("batch_input_shape")), where)
            else:
                waiting[name] = entry, _inbound(f"{where}: layer {shown(name)}", entry.get("inbound_nodes"))
        while waiting:
            ready = [name for name, (_, inputs) in waiting.items() if tensors.keys() >= set(inputs)]
            if not ready:
                raise InputError(f"{where}: layer {shown(next(iter(waiting)))} has inputs that no layer gives")
            for name in ready:
                entry, inputs = waiting.pop(name)
                tensors[name] = self.applied(entry, [tensors[each] for each in inputs], name, depth)
        return tuple(
            tensors[_end(f"{where}: {key}", config.get(key), tensors)] for key in ("input_layers", "output_layers")
        )

    def entrance(self, shape: Any, where: str) -> keras.KerasTensor:
        """Return the input of a model, of a fixed size."""
        if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape[1:]):
            raise InputError(f"{where}: the shape of its input is {shown(shape)}; expected null and fixed sizes")
        self.spend(where, values=math.prod(shape[1:]))
        return self.keras.Input(shape[1:])

    def name_of(self, entry: Mapping[str, Any], where: str) -> str:
        """Return the name of a layer."""
        return check_name(f"{where}: a layer", entry.get("name", entry["config"].get("name")))

    def applied(self, entry: Mapping[str, Any], inputs: list, name: str, depth: int) -> keras.KerasTensor:
        """Build a layer and apply it to its inputs."""
        where = f"{self.source}: layer {shown(name)}"
        kind = check_class(where, entry, (*LAYERS, *MODELS))
        try:
            inside = inputs[0] if len(inputs) == 1 else inputs
            if kind in MODELS:
                return self.model({**entry, "name": name}, where, depth + 1)(inside)
            arguments = arguments_of(where, kind, entry["config"])
            layer = self.class_of(kind)(**{**arguments, "name": name})
            shapes = [tuple(each.shape) for each in inputs]
            output = (
                shapes[0]
                if kind == "LayerScale"
                else layer.compute_output_shape(shapes[0] if inside is not inputs else shapes)
            )
            if None in output[1:]:
                raise InputError(f"{where}: the size of its output is not fixed")
            weights, products = cost(kind, arguments, shapes[0][-1], output[1:])
            self.spend(where, values=math.prod(output[1:]), weights=weights, products=products)
            return layer(inside)
        except InputError:
            raise
        except Exception as error:  # Keras raises whatever its layers' constructors do
            raise InputError(f"{where}: Keras cannot build this {kind} ({line_of(error)})") from error

    def class_of(self, kind: str) -> type[keras.layers.Layer]:
        """Return a layer class of `LAYERS`."""
        if kind == "LayerScale":  # ConvNeXt's, which Keras does not export
            return import_module("keras.src.applications.convnext").LayerScale
        return getattr(self.keras.layers, kind)

    def spend(self, where: str, values: int = 0, layers: int = 0, weights: int = 0, products: int = 0) -> None:
        """Count what a layer needs, and raise InputError if that is too much."""
        self.layers += layers
        self.weights += weights
        self.products += products
        for what, needed, most in (
            ("layers", self.layers, MOST_LAYERS),
            ("weights", self.weights, MOST_WEIGHTS),
            ("values for one tile", values, MOST_VALUES),
            ("multiplications for one tile", self.products, MOST_PRODUCTS),
        ):
            if needed > most:
                raise InputError(f"{where}: needs {needed:,} {what}, more than {most:,}; use a smaller network or tile")


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        return False
    config = entry.get("config")
    return isinstance(config, dict) or (isinstance(config, list) and entry["class_name"] in MODELS)


def _inbound(where: str, nodes: Any) -> list[str]:
    """Return the names of the layers whose outputs a layer takes."""
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise InputError(f"{where} has the inbound nodes {shown(nodes)}; expected that it is used once")
    node = nodes[0]
    if isinstance(node, dict):  # Keras 3
        names, options = _histories(node.get("args")), [node.get("kwargs")]
    else:  # Keras 2
        names = [_history(each) for each in node] if isinstance(node, list) else []
        options = [each[3] for each in node if len(each) > 3] if all(names) else []
    if not names or not all(names) or not all(map(_is_plain_call, options)):
        raise InputError(f"{where} has the inbound node {shown(node)}; expected outputs of layers alone")
    return names


def _histories(arguments: Any, depth: int = 0) -> list[str | None]:
    """Return the names in the arguments of a call in Keras 3: tensors, or a list of them."""
    if isinstance(arguments, dict) and arguments.get("class_name") == "__keras_tensor__":
        config = arguments.get("config")
        return [_history(config.get("keras_history"))] if isinstance(config, dict) else [None]
    if isinstance(arguments, list) and depth < 2:
        return [name for each in arguments for name in _histories(each, depth + 1)]
    return [None]


def _history(value: Any) -> str | None:
    """Return the layer's name of [name, node, tensor, ...]: each layer has one node, and that one tensor."""
    right = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[2] == 0
    return value[0] if right else None


def _is_plain_call(options: Any) -> bool:
    if options is None:
        return True
    return isinstance(options, dict) and all(
        key in ("training", "mask") and value in (None, False) for key, value in options.items()
    )


def _end(where: str, value: Any, tensors: Mapping[str, Any]) -> str:
    """Return the name of the one layer that a model begins or ends with."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    name = _history(one)
    if name not in tensors:
        raise InputError(f"{where} is {shown(value)}; expected one layer of this model")
    return name
