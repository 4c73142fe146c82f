"""Stage 1: HistoNet, the Keras classifier that scores 51 tissue types in a patch."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import h5py
import numpy as np
from scipy.io import loadmat, savemat

from .adp import CLASSIFIER_CODES
from .errors import InputError
from .files.images import write_bytes
from .gradcam import closed_form_weights, coarse_cams, feature_layer, gradient_weights

if TYPE_CHECKING:
    import keras

#: Mean and standard deviation of ADP's training pixels.
MEAN, STD = 193.09203, 56.450138 + 1e-7


@dataclass(frozen=True)
class HistoNet:
    """A patch classifier, ready to score and localise; `HistoNet.of` makes one from a Keras model.

    Attributes
    ----------
    model : keras.Model
        Normalised tiles of shape (T, tile, tile, 3) to scores of shape (T, 51).
    network : keras.Model
        The same, with a second output: coarse CAMs of shape (T, h, w, 51), or the activations that they weigh.
    closed_form : bool
        Whether the second output is CAMs; else gradients tell each tile's weights.
    thresholds : ndarray of shape (51,), float64
        Score from which on a class is present.
    """

    model: keras.Model
    network: keras.Model
    closed_form: bool
    thresholds: np.ndarray

    @classmethod
    def of(cls, model: keras.Model, thresholds: np.ndarray) -> HistoNet:
        """Return a HistoNet around a Keras classifier of 51 tissue types."""
        keras = import_keras()
        clone = keras.models.clone_model(model)  # a Sequential that grew by `add` has no definite tensors
        clone.set_weights(model.get_weights())
        weights = closed_form_weights(clone)
        if weights is None and keras.backend.backend() != "tensorflow":
            raise InputError(
                f"model {model.name!r} needs gradients for its Grad-CAM, which are taken with TensorFlow only: "
                "set KERAS_BACKEND=tensorflow, or use a model that ends in global pooling and one dense layer"
            )
        second = feature_layer(clone).output
        if weights is not None:  # the weighted sum of channels is a convolution of one pixel
            weigh = keras.layers.Conv2D(weights.shape[1], 1, use_bias=False, name="coarse_cams")
            second = weigh(second)
            weigh.set_weights([weights[np.newaxis, np.newaxis]])
        network = keras.Model(clone.inputs[0], [clone.outputs[0], second])
        network.compile(jit_compile=False)  # compiling by XLA takes longer than a run
        return cls(clone, network, weights is not None, thresholds)

    @property
    def tile(self) -> int:
        """Side of the tiles, in px."""
        return self.model.input_shape[1]

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score tiles, and weigh their activations into a coarse CAM per class.

        Parameters
        ----------
        tiles : ndarray of shape (T, tile, tile, 3), float32, in 0..255

        Returns
        -------
        scores : ndarray of shape (T, 51), float32, in 0..1
        cams : ndarray of shape (T, 51, h, w), float32
        """
        tiles = (tiles - np.float32(MEAN)) / np.float32(STD)
        scores, second = self.network.predict_on_batch(tiles)
        if self.closed_form:
            return scores, np.ascontiguousarray(second.transpose(0, 3, 1, 2))
        return scores, coarse_cams(second, gradient_weights(self.model, tiles))


def load_histonet(folder: Path, name: str, threads: int | None = None) -> HistoNet:
    """Load a classifier from the three files that were published for it.

    Parameters
    ----------
    folder : Path
        Folder of ``<name>.json`` (architecture, as Keras 2 or 3 writes it), ``<name>.h5`` (weights)
        and ``<name>.mat`` (``optimalScoreThresh``).
    name : str
        Name of the model.
    threads : int, optional
        Threads that TensorFlow may use, from its first use in this process on; one for each core, if left out.

    Returns
    -------
    HistoNet

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or if the three do not fit together.
    """
    files = {suffix: Path(folder) / f"{name}{suffix}" for suffix in (".json", ".h5", ".mat")}
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the model's files, {name}.json, .h5 and .mat")
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{path}: no such file; put it there, or choose another model than {name!r}")
    thresholds = read_thresholds(files[".mat"])
    description = read_architecture(files[".json"])
    shapes = read_shapes(files[".h5"])
    with quiet_start(), lasting():
        keras = import_keras()
        if threads and keras.backend.backend() == "tensorflow":
            _limit_threads(threads)
        model = _build(keras, description, files[".json"])
        _check_fit(model, shapes, files)
        try:
            model.load_weights(files[".h5"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{files['.h5']}: weights cannot be read ({_line(error)}); get the file again") from error
        histonet = HistoNet.of(model, thresholds)
        histonet(np.zeros((1, *model.input_shape[1:]), np.float32))  # builds the graph, with its messages
    return histonet


def save_histonet(folder: Path, name: str, model: keras.Model, thresholds: np.ndarray) -> None:
    """Write a classifier as the three files that `load_histonet` reads.

    Parameters
    ----------
    folder : Path
    name : str
    model : keras.Model
    thresholds : ndarray of shape (51,)
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [weight.encode() for weight in names]
            for weight, values in zip(names, layer.get_weights(), strict=True):
                group[weight] = values
    table = io.BytesIO()
    savemat(table, {"optimalScoreThresh": np.reshape(thresholds, (1, -1))})
    write_bytes(folder / f"{name}.json", model.to_json().encode())
    write_bytes(folder / f"{name}.h5", weights.getvalue())
    write_bytes(folder / f"{name}.mat", table.getvalue())


def read_thresholds(path: Path) -> np.ndarray:
    """Return the 51 thresholds of a ``.mat`` file, or raise InputError."""
    try:
        contents = loadmat(path, variable_names=["optimalScoreThresh"])
    except Exception as error:  # loadmat raises whatever its parser meets in a broken file
        raise InputError(f"{path}: not a MATLAB file ({_line(error)}); get the file again") from error
    thresholds = np.ravel(contents.get("optimalScoreThresh", []))
    if thresholds.shape != (len(CLASSIFIER_CODES),) or not np.issubdtype(thresholds.dtype, np.number):
        raise InputError(
            f"{path}: optimalScoreThresh holds {thresholds.size} values, expected {len(CLASSIFIER_CODES)} numbers, "
            "one per class of the classifier"
        )
    if not np.isfinite(thresholds).all():
        raise InputError(f"{path}: optimalScoreThresh holds values that are not finite")
    return thresholds.astype(np.float64)


def read_architecture(path: Path) -> dict:
    """Return what a ``.json`` file says of a Keras model, or raise InputError."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a JSON file ({_line(error)}); get the file again") from error
    if not isinstance(description, dict) or not description.get("config"):
        raise InputError(f"{path}: not the architecture of a Keras model; expected what model.to_json() writes")
    return description


def read_shapes(path: Path) -> dict[str, list[tuple[int, ...]]]:
    """Return the shapes of each layer's weights in a Keras 2 weight file, or raise InputError."""
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            names = [_text(name) for name in group.attrs["layer_names"]]
            shapes = {
                name: [group[name][_text(weight)].shape for weight in group[name].attrs["weight_names"]]
                for name in names
            }
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: not a file of Keras weights, or cut off ({_line(error)}); get it again") from error
    return {name: weights for name, weights in shapes.items() if weights}


def _build(keras: ModuleType, description: dict, path: Path) -> keras.Model:
    config = description["config"]
    try:
        if not isinstance(config, list):
            return keras.models.model_from_json(json.dumps(description))
        # Keras 2.2 wrote a Sequential as a bare list, with the input's shape in its first layer.
        first = {**config[0], "config": dict(config[0]["config"])}
        shape = first["config"].pop("batch_input_shape")
        entrance, layers = keras.Input(batch_shape=shape), (first, *config[1:])
        layers = [getattr(keras.layers, layer["class_name"]).from_config(layer["config"]) for layer in layers]
        return keras.Sequential([entrance, *layers], name="histonet")
    except Exception as error:  # Keras raises whatever its layers' constructors do
        raise InputError(f"{path}: Keras cannot build this architecture ({_line(error)})") from error


def _check_fit(model: keras.Model, shapes: dict[str, list[tuple[int, ...]]], files: dict[str, Path]) -> None:
    """Raise InputError that names the first layer in which weights and architecture differ."""
    layers = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
    where = f"{files['.h5']} does not fit {files['.json'].name}"
    for wanted, found in zip_longest(layers.items(), shapes.items(), fillvalue=("(none)", [])):
        if wanted[1] != found[1]:
            raise InputError(
                f"{where}: layer {wanted[0]} of the architecture has weights of shape {_shapes(wanted[1])}, "
                f"layer {found[0]} of the file {_shapes(found[1])}; both files must come from the same model"
            )
    height, width, channels = model.input_shape[1:] if len(model.input_shape) == 4 else (0, 1, 0)
    if height != width or channels != 3 or model.output_shape[1:] != (len(CLASSIFIER_CODES),):
        raise InputError(
            f"{files['.json']}: maps {model.input_shape[1:]} to {model.output_shape[1:]}, expected square RGB tiles "
            f"to {len(CLASSIFIER_CODES)} scores"
        )


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes) or "none"


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def import_keras() -> ModuleType:
    """Import Keras, on first use and without TensorFlow's start-up messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports these, if it can, for wrappers and plots that nobody needs here: most of a second.
    unwanted = {"sklearn", "matplotlib"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(unwanted))
    try:
        return importlib.import_module("keras")
    finally:
        for name in unwanted:
            del sys.modules[name]


def _limit_threads(threads: int) -> None:
    from tensorflow.config import threading

    with contextlib.suppress(RuntimeError):  # it works already, with the threads that it has
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)


@contextlib.contextmanager
def quiet_start():
    """Keep off the screen what TensorFlow's libraries print while they start; let it through if they fail."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except BaseException:
            messages.seek(0)
            os.write(screen, messages.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


@contextlib.contextmanager
def lasting():
    """Load what stays, out of the garbage collector's sight: it would search all of it again and again, and at exit."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
