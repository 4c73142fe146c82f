"""Allow-list of the layers, and of their arguments, that a classifier's file may use.

A model file is untrusted. Keras would build any layer that it names, and some layers run code (``Lambda``) or read
files (``StringLookup``). The list has the layers of HistoNet, of the networks in ``keras.applications`` and of other
convolutional networks, which do neither. Each layer's arguments are those that affect its output for a tile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError

ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "hard_silu", "hard_swish"),
    *("tanh", "sigmoid", "hard_sigmoid", "softmax", "softplus", "softsign", "exponential", "mish"),
)
DTYPES = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")

#: Arguments that matter only in training; they are ignored.
TRAINING = re.compile(
    r".*_(initializer|regularizer|constraint)|trainable|seed|noise_shape|momentum|renorm_momentum|renorm_clipping"
    r"|synchronized|fused|batch_input_shape|batch_shape|input_axes|output_axes|autocast|dynamic"
)


class Kind(NamedTuple):
    """A kind of argument: the expected values in words, and their test."""

    expected: str
    allows: Callable[[Any], bool]


def _is_whole(value: Any, least: int = 1, most: int = 1 << 20) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e30 < value < 1e30


def _is_nested(value: Any, test: Callable[[Any], bool], depth: int = 1, lengths: Sequence[int] = (2,)) -> bool:
    """Tell whether a value passes a test, or all values of lists of allowed lengths, nested up to a depth."""
    if depth and isinstance(value, list):
        return len(value) in lengths and all(_is_nested(item, test, depth - 1, lengths) for item in value)
    return test(value)


def _optional(kind: Kind) -> Kind:
    return Kind(f"{kind.expected}, or null", lambda value: value is None or kind.allows(value))


COUNT = Kind("a positive whole number", _is_whole)
PAIR = Kind("a positive whole number, or two", lambda v: _is_nested(v, _is_whole))
FLAG = Kind("true or false", lambda v: type(v) is bool)
NUMBER = Kind("a finite number", _is_number)
NUMBERS = Kind("a finite number, or a list of such", lambda v: _is_nested(v, _is_number, 4, range(1, 4097)))
EPSILON = Kind("a number above 0, at most 1", lambda v: _is_number(v) and 0 < v <= 1)
RATE = Kind("a number from 0, below 1", lambda v: _is_number(v) and 0 <= v < 1)
AXIS = Kind("an axis", lambda v: _is_nested(v, lambda axis: _is_whole(axis, -4, 4), 1, range(1, 4)))
SHAPE = Kind(
    "a list of whole numbers",
    lambda v: isinstance(v, list) and _is_nested(v, lambda side: _is_whole(side, -1), 1, range(1, 5)),
)
MARGIN = Kind("a number of px, two, or two pairs", lambda v: _is_nested(v, lambda px: _is_whole(px, 0), 2))
PADDING = Kind("valid or same", lambda v: v in ("valid", "same"))
FORMAT = Kind("channels_last", lambda v: v in (None, "channels_last"))
ACTIVATION = Kind(f"one of {', '.join(ACTIVATIONS)}", lambda v: v is None or (isinstance(v, str) and v in ACTIVATIONS))

_WINDOW = {"strides": _optional(PAIR), "padding": PADDING, "data_format": FORMAT}
_OUT = {"activation": ACTIVATION, "use_bias": FLAG}
_CONVOLUTION = {"kernel_size": PAIR, "dilation_rate": PAIR, **_WINDOW, **_OUT}
_NORM = {"axis": AXIS, "epsilon": EPSILON, "center": FLAG, "scale": FLAG}
_SIZE = {"height": COUNT, "width": COUNT, "data_format": FORMAT}

_METHODS = ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
INTERPOLATION = Kind(f"one of {', '.join(_METHODS)}", lambda v: v in _METHODS)

#: Allowed arguments of each allowed layer class; all also take `name` and `dtype`.
LAYERS: Mapping[str, Mapping[str, Kind]] = {
    **{kind: {} for kind in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")},
    **{kind: {"axis": AXIS} for kind in ("Concatenate", "Softmax", "UnitNormalization")},
    **{kind: {"pool_size": PAIR, **_WINDOW} for kind in ("AveragePooling2D", "MaxPooling2D")},
    **{kind: {"data_format": FORMAT, "keepdims": FLAG} for kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D")},
    "Activation": {"activation": ACTIVATION},
    "BatchNormalization": _NORM,
    "CenterCrop": _SIZE,
    "Conv2D": {"filters": COUNT, "groups": COUNT, **_CONVOLUTION},
    "Conv2DTranspose": {"filters": COUNT, "groups": COUNT, "output_padding": _optional(MARGIN), **_CONVOLUTION},
    "Cropping2D": {"cropping": MARGIN, "data_format": FORMAT},
    "Dense": {"units": COUNT, **_OUT},
    "DepthwiseConv2D": {"depth_multiplier": COUNT, **_CONVOLUTION},
    "Dropout": {"rate": RATE},
    "ELU": {"alpha": NUMBER},
    "Flatten": {"data_format": FORMAT},
    "GroupNormalization": {"groups": Kind("a whole number", lambda v: _is_whole(v, -1) and v != 0), **_NORM},
    "LayerNormalization": {**_NORM, "rms_scaling": FLAG},
    "LayerScale": {"init_values": NUMBER, "projection_dim": COUNT},
    "LeakyReLU": {"negative_slope": NUMBER},
    "Normalization": {"axis": _optional(AXIS), "mean": _optional(NUMBERS), "variance": _optional(NUMBERS)},
    "PReLU": {"shared_axes": _optional(AXIS)},
    "Permute": {"dims": SHAPE},
    "ReLU": {"max_value": _optional(NUMBER), "negative_slope": NUMBER, "threshold": NUMBER},
    "Rescaling": {"scale": NUMBERS, "offset": NUMBERS},
    "Reshape": {"target_shape": SHAPE},
    "Resizing": {
        **dict.fromkeys(("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"), FLAG),
        "interpolation": INTERPOLATION,
        "fill_mode": Kind("constant", lambda v: v == "constant"),
        "fill_value": NUMBER,
        **_SIZE,
    },
    "SeparableConv2D": {"filters": COUNT, "depth_multiplier": COUNT, **_CONVOLUTION},
    "SpatialDropout2D": {"rate": RATE, "data_format": FORMAT},
    "UpSampling2D": {"size": PAIR, "interpolation": INTERPOLATION, "data_format": FORMAT},
    "ZeroPadding2D": {"padding": MARGIN, "data_format": FORMAT},
}

#: Layers that do nothing at inference: noise, augmentation, penalties.
INACTIVE = (
    *("ActivityRegularization", "AlphaDropout", "AugMix", "CutMix", "GaussianDropout", "GaussianNoise", "Identity"),
    *("MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
    *("RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight"),
    *("RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation"),
    *("RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom", "SpatialDropout1D"),
)

#: Other names of the same layers, and of their arguments.
ALIASES = {
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"), "BatchNormalization"),
    **{"Convolution2D": "Conv2D", "MaxPool2D": "MaxPooling2D", "AvgPool2D": "AveragePooling2D"},
    **{"Convolution2DTranspose": "Conv2DTranspose", "SeparableConvolution2D": "SeparableConv2D"},
    **{"GlobalAvgPool2D": "GlobalAveragePooling2D", "GlobalMaxPool2D": "GlobalMaxPooling2D"},
    "ThresholdedReLU": "ReLU",
    "RandomCrop": "Resizing",
}
RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("ReLU", "theta"): "threshold"}


def check_class(where: str, entry: Mapping[str, Any], among: Sequence[str]) -> str:
    """Return the class of an entry of an architecture, or raise InputError if it is not one of `among`."""
    named, module, registered = (entry.get(key) for key in ("class_name", "module", "registered_name"))
    kind = ALIASES.get(named, named) if isinstance(named, str) else named
    if not isinstance(kind, str) or kind not in among:
        raise InputError(
            f"{where} is a {shown(kind)}, which is not built from a file; see docs/security.md for those that are"
        )
    if module is not None and (not isinstance(module, str) or module.partition(".")[0] not in ("keras", "tf_keras")):
        raise InputError(f"{where} is of the module {shown(module)}; expected Keras' own layers")
    if registered not in (None, named):
        raise InputError(f"{where} is registered as {shown(registered)}; expected Keras' own layers")
    return kind


def check_name(where: str, name: Any) -> str:
    """Return the name of a layer, or raise InputError if it is invalid."""
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise InputError(f"{where} has the name {shown(name)}; expected letters and digits")
    return name


def arguments_of(where: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked arguments of a layer whose class, `kind`, is one of `LAYERS`; raise InputError for others.

    Arguments that matter only in training are ignored, and so are unknown ones that are switched off.
    """
    allowed, arguments = LAYERS[kind], {}
    for key, value in config.items():
        key, value = RENAMED.get((kind, key), key), _unwrapped(value)
        if key in allowed:
            if not allowed[key].allows(value):
                raise InputError(f"{where}: {key} is {shown(value)}; expected {allowed[key].expected}")
            if key in ("mean", "variance") and isinstance(value, list):  # of any shape that fits the pixels
                value = np.ravel(value).tolist()
            single = key == "axis" and isinstance(value, list) and len(value) == 1  # as tf.keras 2 writes it
            arguments[key] = value[0] if single else value
        elif key == "name":
            arguments[key] = check_name(where, value)
        elif key == "dtype":
            arguments[key] = _dtype(where, value)
        elif not (key == "groups" and value == 1) and not (value is None or value is False or TRAINING.fullmatch(key)):
            raise InputError(f"{where}: {shown(key)} is {shown(value)}, which is not taken from a file; remove it")
    if "data_format" in allowed:  # else Keras' settings on this machine would decide
        arguments["data_format"] = "channels_last"
    return arguments


def _unwrapped(value: Any) -> Any:
    """Unwrap a number that tf.keras 2 wrapped because it was NumPy's."""
    if isinstance(value, dict) and value.get("class_name") == "__numpy__" and isinstance(value.get("config"), dict):
        return value["config"].get("value")
    return value


def _dtype(where: str, value: Any) -> str:
    policy = isinstance(value, dict) and value.get("class_name") in ("DTypePolicy", "Policy", "PolicyV1")
    name = value["config"].get("name") if policy and isinstance(value.get("config"), dict) else value
    if not isinstance(name, str) or name not in DTYPES:
        raise InputError(f"{where}: dtype is {shown(value)}; expected one of {', '.join(DTYPES)}")
    return name


def cost(kind: str, arguments: Mapping[str, Any], channels: int, output: Sequence[int]) -> tuple[int, int]:
    """Estimate a layer's number of weights, and its number of products for a tile.

    `channels` are those of its input; `output` is the shape of its output, without the axis of tiles.
    """
    filters, depth = arguments.get("filters", 1), arguments.get("depth_multiplier", 1)
    window = arguments.get("kernel_size", arguments.get("pool_size", 1))
    taps = math.prod(window) if isinstance(window, list) else window**2
    if kind in ("Conv2D", "Conv2DTranspose"):
        weights = taps * channels * filters // arguments.get("groups", 1)
    elif kind in ("DepthwiseConv2D", "SeparableConv2D"):
        weights = channels * depth * (taps + filters)
    elif kind == "Dense":
        weights = channels * arguments["units"]
    elif kind == "PReLU":
        return math.prod(output), math.prod(output)
    else:
        return 4 * channels, taps * math.prod(output)
    return weights, weights * math.prod(output[:-1])


def shown(value: Any) -> str:
    """Return a file's value for a message, shortened to part of a line."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
