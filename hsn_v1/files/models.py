"""A classifier's files: architecture, weights and thresholds as published, and the classes that go with them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import h5py
import numpy as np
from scipy.io import loadmat, savemat

from ..adp import ADP
from ..class_file import read_taxonomy
from ..densecrf import CRF
from ..errors import InputError
from ..histonet import PRECISIONS, HistoNet, import_keras, limit_threads, quiet_start
from ..labels import LabelSet, Taxonomy
from ..workers import outside_garbage_collection
from .writing import write_bytes

if TYPE_CHECKING:
    import keras


#: Attribute of a weights' file: the codes of the network's outputs, in order.
OUTPUTS = "hsn_v1_outputs"

#: Classifiers that come with this package: in the repository's folder `data`, or in the installed package.
PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "models" if (PACKAGE / "models").is_dir() else PACKAGE.parent / "data"


def find_model(root: Path, name: str) -> Path:
    """Return the folder of a classifier's files: ``<root>/data``, or that of the classifiers that are shipped."""
    folder = Path(root) / "data"
    shipped = not any(folder.glob(f"{name}.*")) and (SHIPPED / f"{name}.h5").exists()
    return SHIPPED if shipped else folder


def read_labels(folder: Path, name: str) -> Taxonomy:
    """Return a classifier's classes: of ``<name>.toml`` or, without such a file, ADP's, as published."""
    path = Path(folder) / f"{name}.toml"
    return read_taxonomy(path) if path.exists() else ADP


def read_crfs(
    folder: Path, model_name: str, label_sets: tuple[LabelSet, ...]
) -> tuple[dict[str, CRF], tuple[str, ...]]:
    """Return the CRF of each label set by its name, and what the user should know.

    They are read from ``<model name>_<label set>_optimal_pcc.npy`` or, as published, from
    ``<label set>_optimal_pcc.npy``; without a file the default is used, and a note says so.

    Raises
    ------
    InputError
        If a file does not hold what it should.
    """
    crfs, notes = {}, []
    for label_set in label_sets:
        published = f"{label_set.name}_optimal_pcc.npy"
        files = [path for path in (folder / f"{model_name}_{published}", folder / published) if path.exists()]
        crfs[label_set.name] = CRF.from_file(files[0]) if files else CRF()
        if not files:
            notes.append(f"{folder / published}: no such file; the CRF's default settings are used")
    return crfs, tuple(notes)


def load_histonet(folder: Path, name: str, threads: int | None = None, precision: str = PRECISIONS[0]) -> HistoNet:
    """Load a classifier from the three files that were published for it.

    Parameters
    ----------
    folder : Path
        Folder of ``<name>.json`` (architecture, as Keras 2 or 3 writes it), ``<name>.h5`` (weights)
        and ``<name>.mat`` (``optimalScoreThresh``); ``<name>.toml`` (classes) may be there, too.
    name : str
        Name of the model.
    threads : int, optional
        Threads that TensorFlow may use, from its first use in this process on; one for each core, if left out.
    precision : {"float32", "bfloat16"}
        How the convolutions compute.

    Returns
    -------
    HistoNet

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or if they do not fit together.
    """
    files = {suffix: Path(folder) / f"{name}{suffix}" for suffix in (".json", ".h5", ".mat")}
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the model's files, {name}.json, .h5 and .mat")
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{path}: no such file; put it there, or choose another model than {name!r}")
    labels = read_labels(folder, name)
    thresholds = read_thresholds(files[".mat"], len(labels.outputs))
    description = read_architecture(files[".json"])
    shapes = read_shapes(files[".h5"])
    check_outputs(files[".h5"], labels, "adp.toml" if labels is ADP else f"{Path(folder) / name}.toml")
    with quiet_start(), outside_garbage_collection():
        keras = import_keras()
        if threads and keras.backend.backend() == "tensorflow":
            limit_threads(threads)
        model = _build(keras, description, files[".json"])
        _check_fit(model, shapes, files, labels)
        try:
            model.load_weights(files[".h5"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{files['.h5']}: weights cannot be read ({_line(error)}); get the file again") from error
        histonet = HistoNet.of(model, thresholds, labels, precision)
        histonet(np.zeros((1, *model.input_shape[1:]), np.float32))  # builds the graph, with its messages
    return histonet


def save_histonet(
    folder: Path, name: str, model: keras.Model, thresholds: np.ndarray, codes: Sequence[str], class_file: str
) -> None:
    """Write a classifier as the files that `load_histonet` reads.

    Parameters
    ----------
    folder : Path
    name : str
    model : keras.Model
    thresholds : ndarray of shape (K,)
    codes : sequence of K str
        The outputs in their order, which the weights' file keeps, too.
    class_file : str
        Text of ``<name>.toml``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.attrs[OUTPUTS] = [code.encode() for code in codes]
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
    write_bytes(folder / f"{name}.toml", class_file.encode())


def check_outputs(path: Path, labels: Taxonomy, class_file: str) -> None:
    """Raise InputError if a weights' file says that its outputs are others than the classes, or in another order."""
    with h5py.File(path) as file:
        outputs = [_text(code) for code in file.attrs.get(OUTPUTS, labels.codes)]
    for i, (output, code) in enumerate(zip_longest(outputs, labels.codes)):
        if output != code:
            raise InputError(
                f"{class_file}: output {i + 1} is {code}, that of {path.name} is {output}; expected the classes in the "
                f"order of the weights: {', '.join(outputs[:12])}{', ...' if len(outputs) > 12 else ''}"
            )


def read_thresholds(path: Path, outputs: int) -> np.ndarray:
    """Return the thresholds of a ``.mat`` file, one for each output of the classifier, or raise InputError."""
    try:
        contents = loadmat(path, variable_names=["optimalScoreThresh"])
    except Exception as error:  # loadmat raises whatever its parser meets in a broken file
        raise InputError(f"{path}: not a MATLAB file ({_line(error)}); get the file again") from error
    thresholds = np.ravel(contents.get("optimalScoreThresh", []))
    if thresholds.shape != (outputs,) or not np.issubdtype(thresholds.dtype, np.number):
        raise InputError(
            f"{path}: optimalScoreThresh holds {thresholds.size} values, expected {outputs} numbers, "
            "one per output of the classifier"
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


def _check_fit(
    model: keras.Model, shapes: dict[str, list[tuple[int, ...]]], files: dict[str, Path], labels: Taxonomy
) -> None:
    """Raise InputError that names the first layer in which weights and architecture differ."""
    layers = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
    where = f"{files['.h5']} does not fit {files['.json'].name}"
    for wanted, found in zip_longest(layers.items(), shapes.items(), fillvalue=("(none)", [])):
        if wanted[1] != found[1]:
            raise InputError(
                f"{where}: layer {wanted[0]} of the architecture has weights of shape {_shapes(wanted[1])}, "
                f"layer {found[0]} of the file {_shapes(found[1])}; both files must come from the same model"
            )
    labels_file = "adp.toml" if labels is ADP else files[".json"].with_suffix(".toml").name
    height, width, channels = model.input_shape[1:] if len(model.input_shape) == 4 else (0, 1, 0)
    if height != width or channels != 3 or model.output_shape[1:] != (len(labels.outputs),):
        raise InputError(
            f"{files['.json']}: maps {model.input_shape[1:]} to {model.output_shape[1:]}, expected square RGB tiles "
            f"to {len(labels.outputs)} scores, one for each class of {labels_file}"
        )


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes) or "none"


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
