"""Networks that can be trained: convolutions, global pooling, one dense layer. Their Grad-CAM has a closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..histonet import clone_with_weights, finish_weights, in_bfloat16
from ..io.models import read_weights
from ..io.weights import OUTPUTS
from ..keras_start import import_keras
from . import efficientnet_lite0
from .linear_probe import LinearLayer, with_linear_layer
from .recipe import Recipe

if TYPE_CHECKING:
    import keras

#: Filters and dropout rates of HistoNet X1.7's convolutions, block by block; each block ends in a max-pooling.
BLOCKS = (((64, 0.3), (64, 0)), ((128, 0.4), (128, 0)), ((256, 0.4), (256, 0.4), (256, 0)))

#: Mean and standard deviation of R, G and B that ImageNet weights expect; HistoNet uses those of the training patches.
NORMALISATION = {
    "vgg16": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "resnet50": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "efficientnetb0": ((0.0,), (1.0,)),  # it has normalisation layers
    "efficientnet-lite0": (efficientnet_lite0.MEAN, efficientnet_lite0.STD),
}

#: Networks of keras.applications by their names there, and whether their ImageNet weights expect B, G, R.
APPLICATIONS = {"vgg16": ("VGG16", True), "resnet50": ("ResNet50", True), "efficientnetb0": ("EfficientNetB0", False)}


def check_weights(network: str, weights: str) -> None:
    """Raise InputError if a network cannot begin with weights: ``none``, ``imagenet``, or a file's path."""
    if network == "histonet" and weights == "imagenet":
        raise InputError("`weights` imagenet: HistoNet has no such weights; expected none or a file")
    if weights not in ("none", "imagenet") and not Path(weights).is_file():
        raise InputError(f"`weights` {weights}: no such file; expected none, imagenet or a file of weights")
    if network == "efficientnet-lite0":
        efficientnet_lite0.installed()


def build_network(recipe: Recipe, outputs: int, imagenet: bool = False) -> keras.Model:
    """Return a network with random weights, or with ImageNet weights below its dense layer.

    It maps normalised tiles, (T, tile, tile, 3), to scores, (T, outputs) float32 in 0..1. Of the recipe, it uses
    `network`, `tile`, `pooling`, `width`, `dropout` and `bfloat16`. Keras downloads ImageNet weights or takes them from
    its cache. Raises InputError if they are not available.
    """
    if recipe.network == "efficientnet-lite0":
        encoder = efficientnet_lite0.build_encoder(recipe.tile, efficientnet_lite0.read_weights())
        return with_linear_layer(encoder, LinearLayer.blank(encoder.output_shape[-1], outputs))
    if recipe.network != "histonet":
        model = _application(recipe, outputs, imagenet)
    else:
        model = build_histonet(outputs, recipe.tile, recipe.width, recipe.dropout, recipe.pooling)
    return clone_with_weights(model, clone_function=in_bfloat16) if recipe.bfloat16 else model


def for_tiles(model: keras.Model, tile: int) -> keras.Model:
    """Clone a network of `build_network` and its weights for tiles of `tile` px a side; it computes in float32."""
    keras, side = import_keras(), model.input_shape[1]

    def clone(layer: keras.Layer) -> keras.Layer:
        config = {**layer.get_config(), "dtype": "float32"}
        if layer.name.endswith("_pooling2d_4"):  # HistoNet's global pooling
            config["pool_size"] = config["strides"] = (tile // 8, tile // 8)
        elif layer.name.endswith("conv_pad"):  # EfficientNet pads maps of even side by one pixel less before
            halved = round(math.log2(side / layer.input.shape[1]))
            most = config["padding"][0][1]
            config["padding"] = [(most - (1 - -(-tile >> halved) % 2), most)] * 2
        return type(layer).from_config(config)

    return clone_with_weights(model, input_tensors=keras.Input((tile, tile, 3)), clone_function=clone)


def build_histonet(
    outputs: int, tile: int, width: float = 1.0, dropout: float = 1.0, pooling: str = "max"
) -> keras.Model:
    """Return HistoNet X1.7 with random weights; `width` and `dropout` are factors of the published numbers."""
    layers = import_keras().layers
    pool = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
    stack, count = [layers.Input((tile, tile, 3))], 0
    for block, convolutions in enumerate(BLOCKS, 1):
        for filters, rate in convolutions:
            count += 1
            stack += [
                layers.Conv2D(
                    max(1, round(filters * width)),
                    3,
                    padding="same",
                    kernel_regularizer=import_keras().regularizers.L2(5e-4),
                    name=f"conv2d_{count}",
                ),
                layers.Activation("relu", name=f"activation_{count}"),
                layers.BatchNormalization(name=f"batch_normalization_{count}"),
            ]
            if rate * dropout:
                stack.append(layers.Dropout(rate * dropout, name=f"dropout_{count}"))
        stack.append(layers.MaxPooling2D(2, name=f"max_pooling2d_{block}"))
    stack += [
        pool(tile // 8, name=f"{pooling}_pooling2d_4"),
        layers.Flatten(name="flatten_1"),
        layers.Dense(outputs, name="dense_1"),
        layers.Activation("sigmoid", name=f"activation_{count + 1}"),
    ]
    return import_keras().Sequential(stack, name="histonet")


def _application(recipe: Recipe, outputs: int, imagenet: bool) -> keras.Model:
    keras = import_keras()
    name, reversed_channels = APPLICATIONS[recipe.network]
    tiles = keras.Input((recipe.tile, recipe.tile, 3))
    first = tiles
    if reversed_channels:  # by a 1 x 1 convolution, which every version of Keras can load
        reverse = keras.layers.Conv2D(3, 1, use_bias=False, trainable=False, name="blue_green_red")
        first = reverse(tiles)
        reverse.set_weights([np.eye(3, dtype=np.float32)[np.newaxis, np.newaxis, ::-1]])
    try:
        make = getattr(keras.applications, name)
        base = make(include_top=False, weights="imagenet" if imagenet else None, input_tensor=first)
    except Exception as error:  # Keras and urllib raise many types when a download fails
        if not imagenet:
            raise
        raise InputError(
            f"weights imagenet: cannot be fetched ({' '.join(str(error).split())[:120]}); fetch them elsewhere "
            "and give the file as weights, or train from scratch with weights none"
        ) from error
    pooled = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d_1")(base.output)
    dropped = keras.layers.Dropout(min(0.2 * recipe.dropout, 0.9), name="dropout_1")(pooled)
    logits = keras.layers.Dense(outputs, name="dense_1")(dropped)
    scores = keras.layers.Activation("sigmoid", name="scores")(logits)
    return keras.Model(base.inputs[0], scores, name=recipe.network)


def begin_with(model: keras.Model, path: Path, codes: Sequence[str]) -> str:
    """Load weights from a file into the layers of the same name and shapes; return a note that counts these layers.

    The last layer is left out if the file states outputs that differ from `codes`, also in order. Raises InputError if
    the file cannot be read, or fits no layer.
    """
    weights = {**read_weights(path)}
    outputs = weights.pop(OUTPUTS, codes)
    stored = {name: [*arrays.values()] for name, arrays in weights.items()}
    if list(codes) != list(outputs):
        stored.pop(model.layers[-2].name, None)  # the dense layer, before its activation
    with_weights = [layer for layer in model.layers if layer.weights]
    fitting = [
        layer
        for layer in with_weights
        if [array.shape for array in stored.get(layer.name, [])] == [tuple(weight.shape) for weight in layer.weights]
    ]
    if not fitting:
        raise InputError(f"{path}: fits no layer of {model.name}; expected weights of such a network")
    for layer in fitting:
        layer.set_weights(stored[layer.name])
    finish_weights(model)
    rest = [layer.name for layer in with_weights if layer not in fitting]
    return f"{path}: weights of {len(fitting)} layers" + (f"; random ones in {', '.join(rest)}" if rest else "")
