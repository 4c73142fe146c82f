"""Load and save a classifier: architecture, weights and thresholds in the published files, and its classes."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..adp import ADP
from ..errors import InputError
from ..histonet import PRECISIONS, HistoNet, finish_weights
from ..keras_start import import_keras, limit_threads, outside_garbage_collection, quiet_start
from ..labels import Taxonomy
from .keras_graph import name_of
from .keras_json import MODELS, Network, check_architecture, network_of, portable, read_architecture
from .model_files import model_file, model_files, named_model, read_taxonomy
from .reading import line_of, parse_json
from .sandbox import reading_in_sandbox
from .tables import common_end
from .weights import OUTPUTS, PLACES, TEXTS, THRESHOLDS, Arrays, read_hdf5, read_keras, read_mat
from .writing import write_together

if TYPE_CHECKING:
    import keras


def load_histonet(
    folder: Path | str,
    name: str | None = None,
    threads: int | None = None,
    precision: str = PRECISIONS[0],
    labels: Taxonomy | None = None,
) -> HistoNet:
    """Load a classifier from its three published files, none of which is trusted (docs/security.md).

    Parameters
    ----------
    folder : Path or str
        Folder of ``<name>.json`` (architecture, as Keras 2 or 3 writes it), ``<name>.h5`` (weights)
        and ``<name>.mat`` (``optimalScoreThresh``); ``<name>.toml`` (classes) is optional. ``<name>.keras``
        may stand for the first two.
    name : str, optional
        Name of the model. Without it, `folder` is the model's name (in ``data`` here, or shipped), or a path with it.
    threads : int, optional
        Threads that TensorFlow may use, from its first use in this process on; one for each core, if left out.
    precision : {"float32", "bfloat16"}
        Precision of the convolutions.
    labels : Taxonomy, optional
        The classifier's classes, if they have been read already.

    Returns
    -------
    HistoNet
        For inference, not for training: without regularisers and initialisers.

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or if they do not fit together.

    Examples
    --------
    >>> histonet = load_histonet("histonet_X1.7_phantom")
    >>> histonet.tile, round(histonet.mpp, 4), len(histonet.labels.codes)
    (224, 1.2143, 51)
    """
    folder, name = named_model(folder) if name is None else (Path(folder), name)
    files = model_files(folder, name)
    labels = labels or read_taxonomy(folder, name)
    described = files[".json"]
    description = read_architecture(described) if described.suffix == ".json" else {}
    with (
        reading_in_sandbox(read_keras if not description else read_hdf5, files[".h5"]) as weights,
        reading_in_sandbox(read_mat, files[".mat"]) as table,
        quiet_start(),
        outside_garbage_collection(),
    ):
        keras = import_keras()
        if threads:
            limit_threads(threads)
        thresholds = _thresholds_of(table(), len(labels.outputs), files[".mat"], _class_file(files[".mat"], labels))
        whole = {} if description else weights()
        if whole:
            config, metadata = (parse_json(whole[text], described) for text in TEXTS)
            version = metadata.get("keras_version") if isinstance(metadata, dict) else None
            description = {**check_architecture(config, described), "keras_version": str(version)}
        network = network_of(keras, description, described)
        _check_ends(network.model, described, labels)
        arrays = dict(by_layer(description, whole["weights"] if whole else weights()))
        _check_outputs(files[".h5"], arrays.pop(OUTPUTS, labels.codes), labels)
        fill(network, arrays, files[".h5"], described)
        make = HistoNet.around if precision == PRECISIONS[0] else HistoNet.of  # bfloat16 layers need a copy
        histonet = make(network.model, thresholds, labels, precision, name)
        _check_scores(histonet, described)  # builds the graph, with its messages
    return histonet


def save_histonet(
    folder: Path, name: str, model: keras.Model, thresholds: np.ndarray, codes: Sequence[str], class_file: str
) -> None:
    """Write a classifier as the files that `load_histonet` reads; `class_file` is the text of ``<name>.toml``.

    `thresholds` (K,) and `codes` are in the order of the outputs; the weights file also stores the codes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, table = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.attrs[OUTPUTS] = [code.encode() for code in codes]
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = ["/".join(weight.path.split("/")[-2:]) + ":0" for weight in layer.weights]
            group.attrs["weight_names"] = [weight.encode() for weight in names]
            for weight, values in zip(names, layer.get_weights(), strict=True):
                group[weight] = values
    from scipy.io import savemat  # not needed to load a classifier

    savemat(table, {THRESHOLDS: np.reshape(thresholds, (1, -1))})
    architecture = json.dumps(portable(json.loads(model.to_json())))
    contents = (class_file.encode(), architecture.encode(), weights.getvalue(), table.getvalue())
    files = [model_file(folder, name, ending) for ending in (".toml", ".json", ".h5", ".mat")]
    write_together(dict(zip(files, contents, strict=True)))


def _class_file(path: Path, labels: Taxonomy) -> str:
    """Return what a classifier's classes come from, by any of its files, for messages."""
    class_file = path.with_suffix(".toml")
    return f"adp.toml, as there is no {class_file}" if labels is ADP else str(class_file)


def _check_outputs(path: Path, outputs: Iterable[str], labels: Taxonomy) -> None:
    outputs, class_file = list(outputs), _class_file(path, labels)
    for i, (output, code) in enumerate(zip_longest(outputs, labels.codes)):
        if output != code:
            raise InputError(
                f"{class_file}: output {i + 1} is {code}, that of {path.name} is {output}; expected the classes in the "
                f"order of the weights: {', '.join(outputs[:12])}{', ...' if len(outputs) > 12 else ''}"
            )


def read_weights(path: Path) -> Arrays:
    """Read the weights of an ``.h5`` file, by layer and by weight, or raise InputError."""
    with reading_in_sandbox(read_hdf5, path) as weights:
        return weights()


def read_thresholds(path: Path, outputs: int) -> np.ndarray:
    """Read the thresholds of a ``.mat`` file, one for each of `outputs` outputs, or raise InputError."""
    with reading_in_sandbox(read_mat, path) as table:
        return _thresholds_of(table(), outputs, path)


def _thresholds_of(arrays: Arrays, outputs: int, path: Path, source: str = "the classifier") -> np.ndarray:
    thresholds = arrays[THRESHOLDS][""] if arrays else np.zeros(0)
    where = f"{path}: {THRESHOLDS} holds"
    if thresholds.shape != (outputs,):
        raise InputError(f"{where} {thresholds.size} values, expected {outputs} numbers, one per output of {source}")
    for i in np.flatnonzero(~((thresholds >= 0) & (thresholds <= 1))):
        raise InputError(f"{where} {thresholds[i]} for output {i + 1}, expected 0 to 1")
    return thresholds.astype(np.float64)


def _check_ends(model: keras.Model, path: Path, labels: Taxonomy) -> None:
    height, width, channels = model.input_shape[1:] if len(model.input_shape) == 4 else (0, 1, 0)
    if height != width or channels != 3 or model.output_shape[1:] != (len(labels.outputs),):
        raise InputError(
            f"{path}: maps {model.input_shape[1:]} to {model.output_shape[1:]}, expected square RGB tiles "
            f"to {len(labels.outputs)} scores, one for each class of {_class_file(path, labels)}"
        )


def _check_scores(histonet: HistoNet, path: Path) -> None:
    """Raise InputError if a classifier cannot be run on two test tiles, or if its scores of them are not in 0..1."""
    shape = histonet.model.input_shape[1:]
    tiles = np.stack([np.zeros(shape), np.random.default_rng(0).integers(0, 256, shape)]).astype(np.float32)
    try:
        scores, _ = histonet.with_views(flips=False, scales=(1.0,))(tiles)
    except InputError:
        raise
    except Exception as error:  # TensorFlow has errors of its own
        raise InputError(f"{path}: cannot be run on a tile ({line_of(error)}); use another model") from error
    low, high = scores.min(), scores.max()
    if low < 0 or high > 1.001:
        raise InputError(
            f"{path}: gives scores of {low:.3g} to {high:.3g}, expected 0 to 1; the network should end in sigmoids"
        )


def by_layer(description: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Return weights by the names of the description's layers, if their file names them by places in the model.

    A place is a layer, such as ``layers/conv2d_1``, the second of its class, and a number. Weights with names stay as
    they are. The description must have passed `network_of`.
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
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def fill(network: Network, weights: Arrays, path: Path, described: Path) -> None:
    """Set a network's weights; `path` and `described` are the files of the weights and of the architecture.

    Raises InputError if they do not fit, which names the first such layer and its shapes in both files.
    """
    groups = {name: layers for name, layers in network.groups.items() if layers}
    weights = {name: arrays for name, arrays in weights.items() if network.groups.get(name, True)}  # no noise layers
    if weights.keys() == groups.keys():
        pairs = [(name, name) for name in groups]
    else:  # by order, as layers may have been renamed
        pairs = zip_longest(groups, weights, fillvalue="(none)")
    for layer, name in pairs:
        wanted = [weight for _, part in groups.get(layer, ()) for weight in part.weights]
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

    For a nested model, Keras writes trainable weights first, then frozen ones. Arrays belong to the layer whose name
    ends most like theirs. If names do not decide, arrays are taken in Keras' order.
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
    values = dict(zip(order, arrays.values(), strict=False))
    return [values[i] for i in range(len(wanted)) if i in values] if len(arrays) == len(wanted) else [*arrays.values()]


def _shapes(arrays: list) -> str:
    return ", ".join(" x ".join(map(str, array.shape)) for array in arrays) or "none"
