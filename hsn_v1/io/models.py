"""A classifier's files: architecture, weights and thresholds as published, and the classes that go with them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..adp import ADP
from ..errors import InputError
from ..histonet import PRECISIONS, HistoNet
from ..keras_start import import_keras, limit_threads, quiet_start
from ..labels import Taxonomy
from ..parallel import outside_garbage_collection
from .keras_json import check_architecture, network_of, portable, read_architecture
from .model_files import model_file, model_files, named_model, read_taxonomy
from .reading import line_of, parse_json
from .sandbox import reading_in_sandbox
from .weights import OUTPUTS, TEXTS, THRESHOLDS, Arrays, read_hdf5, read_keras, read_mat
from .weights_by_layer import by_layer, fill
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
    """Load a classifier from the three files that were published for it. None of them is trusted: see docs/security.md.

    Parameters
    ----------
    folder : Path or str
        Folder of ``<name>.json`` (architecture, as Keras 2 or 3 writes it), ``<name>.h5`` (weights)
        and ``<name>.mat`` (``optimalScoreThresh``); ``<name>.toml`` (classes) may be there, too. ``<name>.keras``
        may stand for the first two.
    name : str, optional
        Name of the model. Without it, `folder` is the model's name, in ``data`` here or shipped, or a path with it.
    threads : int, optional
        Threads that TensorFlow may use, from its first use in this process on; one for each core, if left out.
    precision : {"float32", "bfloat16"}
        How the convolutions compute.
    labels : Taxonomy, optional
        The classifier's classes, if they are read already.

    Returns
    -------
    HistoNet
        For use, not for training: without regularisers and initialisers.

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or if they do not fit together.
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
        thresholds = _thresholds_of(table(), len(labels.outputs), files[".mat"])
        if not description:
            content = weights()
            description = _description_of(content, described)
            weights = partial(content.get, "weights")
        network = network_of(keras, description, described)
        _check_ends(network.model, described, labels)
        arrays = dict(by_layer(description, weights()))
        _check_outputs(files[".h5"], arrays.pop(OUTPUTS, labels.codes), labels)
        fill(network, arrays, files[".h5"], described)
        histonet = HistoNet.of(network.model, thresholds, labels, precision)
        _check_scores(histonet, described)  # builds the graph, with its messages
    return histonet


def _description_of(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the architecture that a ``.keras`` file holds, with the version of Keras that wrote it."""
    config, metadata = (parse_json(content[name], path) for name in TEXTS)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return {**check_architecture(config, path), "keras_version": str(version)}


def save_histonet(
    folder: Path, name: str, model: keras.Model, thresholds: np.ndarray, codes: Sequence[str], class_file: str
) -> None:
    """Write a classifier as the files that `load_histonet` reads; `class_file` is the text of ``<name>.toml``.

    `thresholds` (K,) and `codes` are those of the outputs in their order; the weights' file keeps the codes, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.attrs[OUTPUTS] = [code.encode() for code in codes]
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = ["/".join(weight.path.split("/")[-2:]) + ":0" for weight in layer.weights]
            group.attrs["weight_names"] = [weight.encode() for weight in names]
            for weight, values in zip(names, layer.get_weights(), strict=True):
                group[weight] = values
    from scipy.io import savemat  # which runs that only load a classifier go without

    table = io.BytesIO()
    savemat(table, {THRESHOLDS: np.reshape(thresholds, (1, -1))})
    architecture = json.dumps(portable(json.loads(model.to_json())))
    contents = {
        ".toml": class_file.encode(),
        ".json": architecture.encode(),
        ".h5": weights.getvalue(),
        ".mat": table.getvalue(),
    }
    write_together({model_file(folder, name, ending): content for ending, content in contents.items()})


def _check_outputs(path: Path, outputs: Iterable[str], labels: Taxonomy) -> None:
    """Raise InputError if a weights' file says that its outputs are others than the classes, or in another order."""
    outputs, class_file = list(outputs), "adp.toml" if labels is ADP else str(path.with_suffix(".toml"))
    for i, (output, code) in enumerate(zip_longest(outputs, labels.codes)):
        if output != code:
            raise InputError(
                f"{class_file}: output {i + 1} is {code}, that of {path.name} is {output}; expected the classes in the "
                f"order of the weights: {', '.join(outputs[:12])}{', ...' if len(outputs) > 12 else ''}"
            )


def read_weights(path: Path) -> Arrays:
    """Return the weights of an ``.h5`` file by the layer's name and their own, or raise InputError."""
    with reading_in_sandbox(read_hdf5, path) as weights:
        return weights()


def read_thresholds(path: Path, outputs: int) -> np.ndarray:
    """Return the thresholds of a ``.mat`` file, one for each output of the classifier, or raise InputError."""
    with reading_in_sandbox(read_mat, path) as table:
        return _thresholds_of(table(), outputs, path)


def _thresholds_of(found: Arrays, outputs: int, path: Path) -> np.ndarray:
    """Return the thresholds, one for each output of the classifier and in 0..1, or raise InputError."""
    thresholds = found[THRESHOLDS][""] if found else np.zeros(0)
    if thresholds.shape != (outputs,):
        raise InputError(
            f"{path}: {THRESHOLDS} holds {thresholds.size} values, expected {outputs} numbers, "
            "one per output of the classifier"
        )
    wrong = np.flatnonzero(~((thresholds >= 0) & (thresholds <= 1)))
    if len(wrong):
        raise InputError(
            f"{path}: {THRESHOLDS} holds {thresholds[wrong[0]]} for output {wrong[0] + 1}, expected 0 to 1"
        )
    return thresholds.astype(np.float64)


def _check_ends(model: keras.Model, path: Path, labels: Taxonomy) -> None:
    """Raise InputError if a model does not map tiles to a score for each class."""
    labels_file = "adp.toml" if labels is ADP else path.with_suffix(".toml").name
    height, width, channels = model.input_shape[1:] if len(model.input_shape) == 4 else (0, 1, 0)
    if height != width or channels != 3 or model.output_shape[1:] != (len(labels.outputs),):
        raise InputError(
            f"{path}: maps {model.input_shape[1:]} to {model.output_shape[1:]}, expected square RGB tiles "
            f"to {len(labels.outputs)} scores, one for each class of {labels_file}"
        )


def _check_scores(histonet: HistoNet, path: Path) -> None:
    """Raise InputError if a classifier cannot be run, or if what it gives for two tiles are not scores."""
    shape = histonet.model.input_shape[1:]
    tiles = np.stack([np.zeros(shape), np.random.default_rng(0).integers(0, 256, shape)]).astype(np.float32)
    try:
        scores, _ = histonet(tiles)
    except InputError:
        raise
    except Exception as error:  # TensorFlow has errors of its own
        raise InputError(f"{path}: cannot be run on a tile ({line_of(error)}); use another model") from error
    if scores.min() < 0 or scores.max() > 1.001:
        raise InputError(
            f"{path}: gives scores of {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1; "
            "the network should end in sigmoids"
        )
