"""Read a classifier's weights from HDF5 and ``.keras`` files, and its thresholds from MATLAB's.

The readers belong in the `sandbox`, as their libraries may crash or spin on a damaged file.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import h5py
import numpy as np

from ..errors import InputError
from .reading import line_of, opened, read_bytes

MOST_VALUES = 200_000_000
MOST_PACKED = 8  #: most values per byte of a file: trained weights hardly compress, empty ones do
LONGEST_MAT = 16 << 20  #: greatest size of a .mat file, in bytes
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  #: allowed filters of HDF5; others may load libraries

#: Keras 3's files: texts and weights in an archive; groups of a model's layers; limits on nesting and on groups.
TEXTS, WEIGHTS, LONGEST_TEXT = ("config.json", "metadata.json"), "model.weights.h5", 16 << 20
PLACES, DEEPEST, MOST_GROUPS = ("layers", "_layer_checkpoint_dependencies"), 12, 10_000

THRESHOLDS = "optimalScoreThresh"  #: variable of a .mat file
OUTPUTS = "hsn_v1_outputs"  #: attribute of a weights file: the classes of its outputs

Arrays = Mapping[str, Mapping[str, np.ndarray]]  #: arrays by two names, such as layer and weight, in the file's order


def read_mat(path: Path) -> Arrays:
    """Read the thresholds, (K,) numbers, of a ``.mat`` file; nothing if they are missing or too many."""
    from scipy.io import loadmat, whosmat

    content = read_bytes(path, LONGEST_MAT)
    try:
        sizes = {name: math.prod(shape) for name, shape, _ in whosmat(io.BytesIO(content))}
        if sizes.get(THRESHOLDS, LONGEST_MAT) * 8 >= LONGEST_MAT:
            return {}
        values = np.ravel(loadmat(io.BytesIO(content), variable_names=[THRESHOLDS])[THRESHOLDS])
    except Exception as error:  # SciPy raises anything on a broken file
        raise InputError(f"{path}: not a MATLAB file ({line_of(error)}); get the file again") from error
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise InputError(f"{path}: {THRESHOLDS} holds {values.dtype}, expected real numbers")
    return {THRESHOLDS: {"": values}}


def read_hdf5(path: Path) -> Arrays:
    """Read weights, float32 and finite, by layer and by weight.

    If the file has the codes of the outputs, they come under `OUTPUTS`, with empty arrays. In weights that Keras 3
    wrote alone, layers are named by their places, such as ``layers/conv2d_1``; see `models.by_layer`.
    """
    with opened(path) as file:
        return _read_hdf5(path, file, os.fstat(file.fileno()).st_size)


def read_keras(path: Path) -> dict[str, Any]:
    """Read a ``.keras`` file: its texts ``config.json`` and ``metadata.json``, and its weights by layers' places."""
    with opened(path) as file:
        try:
            with ZipFile(file) as archive:
                members = {name: archive.getinfo(name) for name in (*TEXTS, WEIGHTS)}
                for name, member in members.items():
                    most = 5 * MOST_VALUES if name == WEIGHTS else LONGEST_TEXT
                    if member.file_size > most:
                        raise InputError(f"{path}: {name} is larger than {most:,} bytes; get the file again")
                texts = {name: archive.read(name).decode() for name in TEXTS}
                content = archive.read(WEIGHTS)
        except InputError:
            raise
        except (BadZipFile, KeyError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
            raise InputError(f"{path}: not a .keras file, or cut off ({line_of(error)}); get it again") from error
    return {**texts, "weights": _read_hdf5(path, io.BytesIO(content), len(content))}


def _read_hdf5(path: Path, stream: BinaryIO, size: int) -> Arrays:
    try:
        with h5py.File(stream, "r") as file:
            top = _member(path, file, "model_weights") if "model_weights" in file else file
            weights: dict[str, dict[str, np.ndarray]] = {}
            if OUTPUTS in file.attrs:
                weights[OUTPUTS] = dict.fromkeys(_names(path, file, OUTPUTS), np.zeros(0, np.float32))
            left = MOST_VALUES, MOST_PACKED * size
            for layer, group, names in _groups(path, top):
                arrays: dict[str, np.ndarray] = {}
                for name in names:
                    arrays[name] = _values(f"{path}: {name} of layer {layer}", _member(path, group, name), min(left))
                    left = tuple(limit - arrays[name].size for limit in left)
                if arrays:
                    weights[layer] = arrays
            return weights
    except InputError:
        raise
    except Exception as error:  # h5py raises anything on a broken file
        raise InputError(f"{path}: not a file of Keras weights, or cut off ({line_of(error)}); get it again") from error


def _groups(path: Path, top: Any) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield each layer's name or place, its group, and the names of its arrays."""
    place = next((place for place in PLACES if place in top and "layer_names" not in top.attrs), None)
    if place is None:
        for layer in _names(path, top, "layer_names"):
            group = _member(path, top, layer)
            yield layer, group, _names(path, group, "weight_names")
        return
    waiting = [place]
    for layer in waiting:  # the list grows
        if layer.count("/") > DEEPEST or len(waiting) > MOST_GROUPS:
            raise InputError(f"{path}: more groups within each other than a model has layers; get the file again")
        group = _member(path, top, layer)
        if layer.endswith("/vars"):
            yield layer.removesuffix("/vars"), group, sorted(group, key=lambda name: (len(name), name))
        else:
            waiting += [f"{layer}/{name}" for name in group if isinstance(group.get(name), h5py.Group)]


def _names(path: Path, group: Any, key: str) -> list[str]:
    """Return the names in an attribute, which Keras splits if it is long."""
    pieces = [key] if key in group.attrs else [f"{key}{i}" for i in range(len(group.attrs))]
    values = [np.ravel(group.attrs[piece]).tolist() for piece in pieces if piece in group.attrs]
    if not values:
        raise InputError(f"{path}: not a file of Keras weights: {group.name} has no attribute {key}; get it again")
    names = [name.decode() if isinstance(name, bytes) else name for part in values for name in part]
    are_valid = all(isinstance(name, str) and name and name.isprintable() for name in names)
    if not are_valid or len(set(names)) < len(names):
        raise InputError(f"{path}: {key} of {group.name} holds {ascii(names)[:60]}, expected distinct names")
    return names


def _member(path: Path, group: Any, name: str) -> Any:
    """Return a group's member by a name with slashes; links, also to other files, are refused."""
    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise InputError(f"{path}: not a file of Keras weights: {name!a} is missing; get the file again")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name!a} is a link to elsewhere, which is not followed; get the file again")
        group = group[part]
    return group


def _values(where: str, dataset: Any, most: int) -> np.ndarray:
    """Return a data set's values as float32; raise InputError unless they are real, finite, and at most `most`."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise InputError(f"{where} is no array; get the file again")
    if dataset.dtype.kind not in "iuf" or dataset.dtype.itemsize > 8:
        raise InputError(f"{where} is of type {dataset.dtype}; expected real numbers of at most 64 bits")
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where} lies in another file, which is not opened; get the file again")
    layout = dataset.id.get_create_plist()
    unknown = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())} - FILTERS.keys()
    if unknown:
        raise InputError(f"{where} is packed by HDF5's filter {min(unknown)}; expected {', '.join(FILTERS.values())}")
    chunk = math.prod(dataset.chunks or (0,))  # HDF5 reads a chunk whole, even for few values
    if dataset.size > most or chunk > max(dataset.size, 1 << 24):
        claimed = max(dataset.size, chunk)
        raise InputError(f"{where} claims {claimed:,} values; expected at most {most:,} in such a file")
    with np.errstate(over="ignore"):
        values = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{where} is not finite; train the classifier again, or get the file again")
    return np.asarray(values)
