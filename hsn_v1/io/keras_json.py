"""Build a classifier's Keras model, layer by layer, from the JSON that Keras 2 or 3 writes.

Keras' own readers are not used, as they build whatever a file names. `keras_layers` lists the allowed layers. Nested
models are laid out flat, so that Grad-CAM finds their layers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .keras_graph import REVERSED, Call, call_of, end_of, is_entry, name_of, operation_of
from .keras_layers import INACTIVE, LAYERS, arguments_of, check_class, check_name, cost, shown
from .reading import line_of, read_json

if TYPE_CHECKING:
    import keras

LONGEST = 16 << 20  #: greatest size of a JSON file, in bytes
MOST_LAYERS = 2_000
MOST_WEIGHTS = 200_000_000  #: of a model: 0.8 GB
MOST_VALUES = 1 << 26  #: in the output of a layer, for one tile: 0.27 GB
MOST_PRODUCTS = 1 << 38  #: for one tile: some seconds
DEEPEST = 4  #: levels of nested models

MODELS = ("Sequential", "Functional", "Model")  #: "Model" is Keras 2's name of "Functional"


@dataclass(frozen=True)
class Network:
    """A model built from a file's description, flat and with random weights."""

    model: keras.Model
    #: The built layers with weights, and their names in the file, for each layer of the description, in its order: one
    #: layer, those of a nested model, or none.
    groups: Mapping[str, list[tuple[str, keras.Layer]]]


def read_architecture(path: Path) -> dict[str, Any]:
    """Read the description of a Keras model from a ``.json`` file, or raise InputError."""
    return check_architecture(read_json(path, LONGEST), path)


def check_architecture(description: Any, source: Path) -> dict[str, Any]:
    """Return a description if it looks like a Keras model's, or raise InputError."""
    if not isinstance(description, dict) or not isinstance(description.get("config"), (dict, list)):
        raise InputError(f"{source}: not the architecture of a Keras model; expected what model.to_json() writes")
    return description


def network_of(keras: ModuleType, description: Mapping[str, Any], source: Path) -> Network:
    """Build a model from an untrusted description (see `read_architecture`); `source` names the file in errors.

    The description is a Sequential, also as Keras 2.2's bare list of layers, or a Functional that uses each layer once.
    Raises InputError if a layer or argument is not allowed, or if the model would need too much memory or time.
    """
    builder = _Builder(keras, str(source), is_keras_2=str(description.get("keras_version", "3"))[:1] in "12")
    start, end = builder.model({"name": "histonet", **description}, str(source))
    return Network(keras.Model(start, end, name="histonet"), builder.groups)


def portable(description: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a flat description to the keys that `network_of` needs, so that every version of Keras 3 can read it."""
    kind, config, layers = ("module", "class_name", "registered_name"), description["config"], []
    for entry in config["layers"]:
        inner = entry["config"]
        if entry["class_name"] == "InputLayer":
            arguments = _only(inner, "name", "batch_shape")
        else:
            arguments = arguments_of(f"model: layer {shown(inner.get('name'))}", entry["class_name"], inner)
        layers.append({**_only(entry, *kind, "name", "inbound_nodes"), "config": arguments})
    ends = _only(config, "name", "input_layers", "output_layers")
    return {**_only(description, *kind), "config": {**ends, "layers": layers}}


def _only(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: mapping[key] for key in keys if key in mapping}


@dataclass
class _Builder:
    """Builder of a model's layers, nested models included, which counts their total cost."""

    keras: ModuleType
    source: str
    is_keras_2: bool
    names: set[str] = field(default_factory=set)
    groups: dict[str, list[tuple[str, keras.Layer]]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)

    def model(self, entry: Mapping[str, Any], where: str, path: tuple[str, ...] = (), tensor: Any = None) -> tuple:
        """Build a model's layers on a tensor, or on an input of its own; return its first and last tensor.

        `path` holds the names of the models around it, and its own.
        """
        if len(path) >= DEEPEST:
            raise InputError(f"{where}: {DEEPEST} models within each other; expected fewer")
        kind, config = check_class(where, entry, MODELS), entry["config"]
        if isinstance(config, list):
            config = {"layers": config}
        entries = config.get("layers")
        if not isinstance(entries, list) or not entries or not all(is_entry(inner, MODELS) for inner in entries):
            raise InputError(f"{where}: has no list of layers with class_name and config")
        self.spend(where, layers=len(entries))
        names = [check_name(f"{where}: a layer", name_of(inner)) for inner in entries]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise InputError(f"{where}: two layers have the name {shown(twice)}")
        if not path:
            self.groups.update((name, []) for name in names)
        build = self.sequential if kind == "Sequential" else self.functional
        return build(dict(zip(names, entries, strict=True)), config, where, path, tensor)

    def sequential(self, entries: Mapping, config: Mapping, where: str, path: tuple[str, ...], tensor: Any) -> tuple:
        """Chain layers; the tiles' shape is that of an InputLayer or, in Keras 2, of the first layer."""
        first = next(iter(entries.values()))
        start = tensor = self.entrance(first, config.get("build_input_shape"), where) if tensor is None else tensor
        for name, entry in entries.items():
            if entry["class_name"] != "InputLayer":
                tensor = self.applied(entry, Call([name]), [tensor], (*path, name))
        return start, tensor

    def functional(self, entries: Mapping, config: Mapping, where: str, path: tuple[str, ...], tensor: Any) -> tuple:
        """Connect layers by their inbound nodes."""
        waiting, tensors = {}, {}
        for name, entry in entries.items():
            if entry["class_name"] == "InputLayer":
                tensors[name] = self.entrance(entry, None, where) if tensor is None else tensor
            else:
                is_active = entry["class_name"] not in INACTIVE
                waiting[name] = call_of(f"{where}: layer {shown(name)}", entry.get("inbound_nodes"), is_active)
        if tensor is not None and len(tensors) != 1:
            raise InputError(f"{where}: has {len(tensors)} inputs; expected one")
        while waiting:
            before = len(waiting)
            for name, call in [*waiting.items()]:
                if tensors.keys() >= {*call.inputs}:
                    inputs = [tensors[source] for source in call.inputs]
                    tensors[name] = self.applied(entries[name], call, inputs, (*path, name))
                    del waiting[name]
            if len(waiting) == before:
                raise InputError(f"{where}: layer {shown(next(iter(waiting)))} has inputs that no layer gives")
        return tuple(
            tensors[end_of(f"{where}: {key}", config.get(key), tensors)] for key in ("input_layers", "output_layers")
        )

    def entrance(self, entry: Mapping[str, Any], default: Any, where: str) -> keras.KerasTensor:
        """Return the input of a model, of the fixed size that its first layer states, or else of size `default`."""
        inner = entry["config"] if isinstance(entry["config"], dict) else {}
        shape = inner.get("batch_shape", inner.get("batch_input_shape", default))
        if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape[1:]):
            raise InputError(f"{where}: the shape of its input is {shown(shape)}; expected null and fixed sizes")
        self.spend(where, values=math.prod(shape[1:]))
        return self.keras.Input(shape[1:])

    def applied(self, entry: Mapping[str, Any], call: Call, inputs: list, path: tuple[str, ...]) -> keras.KerasTensor:
        """Build a layer, or the layers of a nested model, and apply it to its inputs."""
        where = f"{self.source}: layer {shown(path[-1])}"
        if (operation := operation_of(where, entry, call)) is not None:
            kind, arguments = operation
            if kind == REVERSED:
                return self.reversed_channels(inputs[0], path, where)
        else:
            if call.constants:
                raise InputError(f"{where} has the inputs {shown(call.constants)}; expected outputs of layers alone")
            kind = check_class(where, entry, (*LAYERS, *INACTIVE, *MODELS))
            if len(inputs) == 1 and kind in INACTIVE:
                return inputs[0]
            if len(inputs) == 1 and kind in MODELS:
                return self.model({**entry, "name": path[-1]}, where, path, inputs[0])[1]
            if kind not in LAYERS:
                raise InputError(f"{where} has {len(inputs)} inputs; expected one")
            arguments = arguments_of(where, kind, entry["config"])
            if entry["class_name"] == "RandomCrop":  # at inference
                arguments["crop_to_aspect_ratio"] = True
        after = []
        if self.is_keras_2 and arguments.get("activation") == "hard_sigmoid":  # Keras 3 defines it differently
            arguments["activation"] = "linear"
            after = [("Rescaling", {"scale": 0.2, "offset": 0.5}), ("ReLU", {"max_value": 1.0})]
        tensor = self.layer(kind, arguments, inputs, path, where)
        for kind, arguments in after:
            tensor = self.layer(kind, arguments, [tensor], (*path[:-1], f"{path[-1]}_{kind.lower()}"), where)
        return tensor

    def layer(self, kind: str, arguments: dict, inputs: list, path: tuple[str, ...], where: str) -> keras.KerasTensor:
        """Build a layer from checked arguments, and apply it."""
        try:
            shapes, is_scale = [tuple(tensor.shape) for tensor in inputs], kind == "LayerScale"
            # LayerScale is ConvNeXt's, which Keras does not export.
            home = import_module("keras.src.applications.convnext") if is_scale else self.keras.layers
            layer = getattr(home, kind)(**{**arguments, "name": self.free_name(path)})
            shape = shapes[0] if len(inputs) == 1 else shapes
            output = shape if is_scale else layer.compute_output_shape(shape)
            if None in output[1:]:
                raise InputError(f"{where}: the size of its output is not fixed")
            weights, products = cost(kind, arguments, shapes[0][-1], output[1:])
            self.spend(where, values=math.prod(output[1:]), weights=weights, products=products)
            tensor = layer(inputs[0] if len(inputs) == 1 else inputs)
        except InputError:
            raise
        except Exception as error:  # Keras passes on any error of its layers' constructors
            raise InputError(f"{where}: Keras cannot build this {kind} ({line_of(error)})") from error
        if layer.weights:
            self.groups[path[0]].append(("/".join(path), layer))
        return tensor

    def reversed_channels(self, tensor: keras.KerasTensor, path: tuple[str, ...], where: str) -> keras.KerasTensor:
        """Turn R, G, B into B, G, R by a 1 x 1 convolution."""
        if tensor.shape[-1] != 3:
            raise InputError(f"{where}: reverses {tensor.shape[-1]} channels; expected 3")
        turn = self.keras.layers.Conv2D(3, 1, use_bias=False, name=self.free_name(path))
        turned = turn(tensor)
        turn.set_weights([np.eye(3, dtype=np.float32)[np.newaxis, np.newaxis, ::-1]])
        return turned

    def free_name(self, path: tuple[str, ...]) -> str:
        """Return a unique name that Keras 3 allows, the layer's own if possible."""
        name, longer = (text.replace("/", "_") for text in (path[-1], "_".join(path)))
        if name in self.names:
            name = longer
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def spend(self, where: str, values: int = 0, **needs: int) -> None:
        """Count layers, weights and products; raise InputError if their totals, or a layer's values, are too many."""
        self.spent.update(needs)
        for unit, needed, most in (
            ("layers", self.spent["layers"], MOST_LAYERS),
            ("weights", self.spent["weights"], MOST_WEIGHTS),
            ("values for one tile", values, MOST_VALUES),
            ("multiplications for one tile", self.spent["products"], MOST_PRODUCTS),
        ):
            if needed > most:
                raise InputError(f"{where}: needs {needed:,} {unit}, more than {most:,}; use a smaller network or tile")
