"""Parse the connections of layers in a model's description: inbound nodes of Keras 2 and 3, and operations.

An operation between layers, such as ``x / 255``, has no layer class of its own: tf.keras 2 calls it TFOpLambda.
Arithmetic with numbers, which scales pixels to a range, becomes layers that compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from .keras_layers import ACTIVATIONS, NUMBERS, shown


class Call(NamedTuple):
    """Arguments of a layer's call: the names of the layers whose outputs it takes, and its constants in order."""

    inputs: list[str]
    constants: Sequence[Any] = ()


def is_entry(entry: Any, models: tuple[str, ...]) -> bool:
    """Tell whether a value describes a layer, or a model of one of the classes `models`."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        return False
    return isinstance(entry.get("config"), (dict, list) if entry["class_name"] in models else dict)


def name_of(entry: Mapping[str, Any]) -> Any:
    """Return the name of a layer from its description."""
    config = entry["config"]
    return entry.get("name", config.get("name") if isinstance(config, dict) else entry["class_name"])


def call_of(where: str, nodes: Any, is_active: bool = True) -> Call:
    """Return the arguments of a layer's only call from its inbound nodes, or raise InputError.

    Options of the call, such as a fixed training mode, are ignored if the layer is not active.
    """
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise InputError(f"{where} has the inbound nodes {shown(nodes)}; expected that it is used once")
    node = nodes[0]
    if isinstance(node, dict):  # Keras 3
        names, constants = _in_arguments(node.get("args"))
        options = [node.get("kwargs")]
    elif isinstance(node, list) and node and isinstance(node[0], str):  # an operation of Keras 2
        arguments = node[3] if len(node) > 3 and isinstance(node[3], dict) else {}
        names, constants, options = [_history(node)], [v for k, v in arguments.items() if k != "name"], []
    else:  # Keras 2
        names, constants = [_history(tensor) for tensor in node] if isinstance(node, list) else [], []
        options = [tensor[3] for tensor in node if len(tensor) > 3] if all(names) else []
    if not names or not all(names) or (is_active and not all(map(_is_plain, options))):
        raise InputError(f"{where} has the inbound node {shown(node)}; expected outputs of layers alone")
    return Call(names, constants)


def _in_arguments(arguments: Any, depth: int = 0) -> tuple[list[str | None], list[Any]]:
    """Return the layers' names and the constants among a Keras 3 call's arguments: tensors, or a list of them."""
    if isinstance(arguments, dict) and arguments.get("class_name") == "__keras_tensor__":
        config = arguments.get("config")
        return [_history(config.get("keras_history"))] if isinstance(config, dict) else [None], []
    if isinstance(arguments, list) and depth < 2:
        parts = [_in_arguments(argument, depth + 1) for argument in arguments]
        return [name for names, _ in parts for name in names], [value for _, constants in parts for value in constants]
    return [], [arguments]


def _history(value: Any) -> str | None:
    """Return the layer's name in [name, node, tensor, ...], or None; a layer has one node, with one tensor."""
    is_valid = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[2] == 0
    return value[0] if is_valid else None


def _is_plain(options: Any) -> bool:
    pairs = {} if options is None else options
    return isinstance(pairs, dict) and all(k in ("training", "mask") and v in (None, False) for k, v in pairs.items())


def end_of(where: str, value: Any, tensors: Mapping[str, Any]) -> str:
    """Return the name of the only layer at a model's input or output, or raise InputError."""
    tensor = value[0] if isinstance(value, list) and len(value) == 1 else value
    name = _history(tensor)
    if name not in tensors:
        raise InputError(f"{where} is {shown(value)}; expected one layer of this model")
    return name


DIVISIONS = ("math.truediv", "math.divide", "TrueDivide", "Divide")

#: Operations with a number, or with one per channel, as scale and offset of a `Rescaling` layer.
ARITHMETIC = {
    **dict.fromkeys(DIVISIONS, lambda v: (1 / v, 0.0)),
    **dict.fromkeys(("math.multiply", "Multiply", "__operators__.mul"), lambda v: (v, 0.0)),
    **dict.fromkeys(("math.subtract", "Subtract"), lambda v: (1.0, -v)),
    **dict.fromkeys(("math.add", "Add", "__operators__.add", "nn.bias_add"), lambda v: (1.0, v)),
}

REVERSED = "reversed channels"  #: name of x[..., ::-1] in `operation_of`
REVERSAL = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]


def operation_of(where: str, entry: Mapping[str, Any], call: Call) -> tuple[str, dict[str, Any]] | None:
    """Return the layer class and arguments that compute an operation between layers; None if the entry is a layer.

    Raises InputError for an operation other than `ARITHMETIC`, activations, casts and reversed channels.
    """
    kind, module = entry["class_name"], entry.get("module")
    if kind == "SlicingOpLambda" and len(call.inputs) == 1 and call.constants == [REVERSAL]:
        return REVERSED, {}
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        name = entry["config"].get("function")
    elif isinstance(module, str) and module.startswith("keras.src.ops"):
        name = kind
    else:
        return None
    numbers = [value for value in call.constants if value is not None and not isinstance(value, str)]
    activation = str(name).rpartition(".")[2].lower()
    if name in ARITHMETIC and len(call.inputs) == 1 and len(numbers) == 1 and NUMBERS.allows(numbers[0]):
        values = numbers[0] if isinstance(numbers[0], list) else [numbers[0]]
        if name not in DIVISIONS or 0 not in values:
            pairs = [ARITHMETIC[name](float(value)) for value in values]
            scale, offset = ([*column] if len(pairs) > 1 else column[0] for column in zip(*pairs, strict=True))
            return "Rescaling", {"scale": scale, "offset": offset}
    if activation in ACTIVATIONS and len(call.inputs) == 1 and not numbers:
        return "Activation", {"activation": activation}
    if name == "cast" and len(call.inputs) == 1:
        return "Activation", {"activation": "linear"}
    raise InputError(
        f"{where} is the operation {shown(name)} of {shown(call.constants)}, which is not built from a file; see "
        "docs/security.md for those that are"
    )
