"""How the layers of a model's description are connected: inbound nodes of Keras 2 and 3, and operations between layers.

An operation between layers, such as ``x / 255``, has no class of its own: tf.keras 2 calls it TFOpLambda. Arithmetic
with numbers, which brings pixels to a range, becomes layers that compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from .keras_layers import ACTIVATIONS, NUMBERS, shown


class Call(NamedTuple):
    """Names of the layers whose outputs a layer takes, and its other arguments in their order."""

    inputs: list[str]
    constants: Sequence[Any] = ()


def is_entry(entry: Any, models: tuple[str, ...]) -> bool:
    """Tell whether a value describes a layer, or one of the classes of models."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        return False
    return isinstance(entry.get("config"), (dict, list) if entry["class_name"] in models else dict)


def name_of(entry: Mapping[str, Any]) -> Any:
    """Return the name of a layer that a description has."""
    config = entry["config"]
    return entry.get("name", config.get("name") if isinstance(config, dict) else entry["class_name"])


def call_of(where: str, nodes: Any, is_active: bool = True) -> Call:
    """Return what a layer takes in the one place where it is used, or raise InputError.

    Options of the call, such as that it is always as in training, are of no account if the layer is not active.
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
        names, constants = [_history(each) for each in node] if isinstance(node, list) else [], []
        options = [each[3] for each in node if len(each) > 3] if all(names) else []
    if not names or not all(names) or (is_active and not all(map(_is_plain, options))):
        raise InputError(f"{where} has the inbound node {shown(node)}; expected outputs of layers alone")
    return Call(names, constants)


def _in_arguments(arguments: Any, depth: int = 0) -> tuple[list[str | None], list[Any]]:
    """Return the layers' names and the constants in the arguments of a call in Keras 3: tensors, or a list of them."""
    if isinstance(arguments, dict) and arguments.get("class_name") == "__keras_tensor__":
        config = arguments.get("config")
        return [_history(config.get("keras_history"))] if isinstance(config, dict) else [None], []
    if isinstance(arguments, list) and depth < 2:
        parts = [_in_arguments(each, depth + 1) for each in arguments]
        return [name for names, _ in parts for name in names], [each for _, constants in parts for each in constants]
    return [], [arguments]


def _history(value: Any) -> str | None:
    """Return the layer's name of [name, node, tensor, ...]: each layer has one node, and that one tensor."""
    right = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[2] == 0
    return value[0] if right else None


def _is_plain(options: Any) -> bool:
    pairs = {} if options is None else options
    return isinstance(pairs, dict) and all(k in ("training", "mask") and v in (None, False) for k, v in pairs.items())


def end_of(where: str, value: Any, tensors: Mapping[str, Any]) -> str:
    """Return the name of the one layer that a model begins or ends with, or raise InputError."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    name = _history(one)
    if name not in tensors:
        raise InputError(f"{where} is {shown(value)}; expected one layer of this model")
    return name


DIVISIONS = ("math.truediv", "math.divide", "TrueDivide", "Divide")

#: Layers that compute an operation of a number or one for each channel: scale and offset of `Rescaling`.
ARITHMETIC = {
    **dict.fromkeys(DIVISIONS, lambda v: (1 / v, 0.0)),
    **dict.fromkeys(("math.multiply", "Multiply", "__operators__.mul"), lambda v: (v, 0.0)),
    **dict.fromkeys(("math.subtract", "Subtract"), lambda v: (1.0, -v)),
    **dict.fromkeys(("math.add", "Add", "__operators__.add", "nn.bias_add"), lambda v: (1.0, v)),
}

REVERSED = "reversed channels"  #: what `operation_of` calls x[..., ::-1]
REVERSAL = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]


def operation_of(where: str, entry: Mapping[str, Any], call: Call) -> tuple[str, dict[str, Any]] | None:
    """Return the layer class and arguments that compute an operation between layers; None if the entry is a layer.

    Raises InputError if it is another operation than those of `ARITHMETIC`, or an activation.
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
    numbers = [each for each in call.constants if each is not None and not isinstance(each, str)]
    activation = str(name).rpartition(".")[2].lower()
    if name in ARITHMETIC and len(call.inputs) == 1 and len(numbers) == 1 and NUMBERS.allows(numbers[0]):
        values = numbers[0] if isinstance(numbers[0], list) else [numbers[0]]
        if name not in DIVISIONS or 0 not in values:
            pairs = [ARITHMETIC[name](float(value)) for value in values]
            scale, offset = ([*each] if len(pairs) > 1 else each[0] for each in zip(*pairs, strict=True))
            return "Rescaling", {"scale": scale, "offset": offset}
    if activation in ACTIVATIONS and len(call.inputs) == 1 and not numbers:
        return "Activation", {"activation": activation}
    if name == "cast" and len(call.inputs) == 1:
        return "Activation", {"activation": "linear"}
    raise InputError(
        f"{where} is the operation {shown(name)} of {shown(call.constants)}, which is not built from a file; see "
        "docs/security.md for those that are"
    )
