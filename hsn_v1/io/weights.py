"""A classifier's numbers: weights in HDF5 as Keras 2 writes them, and thresholds as MATLAB does.

Both readers belong in a process of their own (see `apart`), as their libraries may crash or spin on a damaged file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .reading import line_of, read_bytes

MOST_VALUES = 200_000_000
LONGEST_MAT = 16 << 20  #: bytes of a .mat file
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  #: by their number in HDF5; others may load libraries

#: Numbers by two names, in the file's order.
Arrays = Mapping[str, Mapping[str, np.ndarray]]

THRESHOLDS = "optimalScoreThresh"  #: the variable's name
OUTPUTS = "hsn_v1_outputs"  #: attribute of a weights' file: the classes of its outputs


def read_mat(path: Path) -> Arrays:
    """Read thresholds, (K,) numbers, as the one array of a ``.mat`` file; none if they are not there."""
    from scipy.io import loadmat, whosmat

    content = read_bytes(path, LONGEST_MAT)
    try:
        known = {name: math.prod(shape) for name, shape, _ in whosmat(io.BytesIO(content))}
        if known.get(THRESHOLDS, LONGEST_MAT) * 8 >= LONGEST_MAT:
            return {}
        values = np.ravel(loadmat(io.BytesIO(content), variable_names=[THRESHOLDS])[THRESHOLDS])
    except Exception as error:  # SciPy raises whatever its parser meets in a broken file
        raise InputError(f"{path}: not a MATLAB file ({line_of(error)}); get the file again") from error
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise InputError(f"{path}: {THRESHOLDS} holds {values.dtype}, expected real numbers")
    return {THRESHOLDS: {"": values}}


def read_hdf5(path: Path) -> Arrays:
    """Read weights, float32 and finite, by the layer's name and their own.

    As `OUTPUTS` come the codes of the outputs, with no numbers, if the file has them.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            top = _member(path, file, "model_weights") if "model_weights" in file else file
            weights: dict[str, dict[str, np.ndarray]] = {}
            if OUTPUTS in file.attrs:
                weights[OUTPUTS] = dict.fromkeys(_names(path, file, OUTPUTS), np.zeros(0, np.float32))
            for layer in _names(path, top, "layer_names"):
                group = _member(path, top, layer)
                names = _names(path, group, "weight_names")
                arrays = {
                    name: _values(f"{path}: {name} of layer {layer}", _member(path, group, name)) for name in names
                }
                if arrays:
                    weights[layer] = arrays
                if sum(values.size for each in weights.values() for values in each.values()) > MOST_VALUES:
                    raise InputError(f"{path}: more than {MOST_VALUES:,} weights; use a smaller network")
            return weights
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # h5py raises whatever it meets in a broken file
        raise InputError(f"{path}: not a file of Keras weights, or cut off ({line_of(error)}); get it again") from error


def _names(path: Path, group: Any, key: str) -> list[str]:
    """Return the names in an attribute, which Keras cuts in pieces if it is long."""
    pieces = (
        [key] if key in group.attrs else [f"{key}{i}" for i in range(len(group.attrs)) if f"{key}{i}" in group.attrs]
    )
    if not pieces:
        raise InputError(f"{path}: not a file of Keras weights: {group.name} has no attribute {key}; get it again")
    names = [name for piece in pieces for name in np.ravel(group.attrs[piece]).tolist()]
    if not all(isinstance(name, (bytes, str)) and name for name in names):
        raise InputError(f"{path}: {key} of {group.name} holds {ascii(names)[:60]}, expected names; get the file again")
    names = [name.decode() if isinstance(name, bytes) else name for name in names]
    if not all(name.isprintable() for name in names) or len(set(names)) < len(names):
        raise InputError(f"{path}: {key} of {group.name} holds {ascii(names)[:60]}, expected distinct names")
    return names


def _member(path: Path, group: Any, name: str) -> Any:
    """Return what a group has by a name with slashes; links to elsewhere, also to other files, are refused."""
    import h5py

    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise InputError(f"{path}: not a file of Keras weights: {name!a} is missing; get the file again")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name!a} is a link to elsewhere, which is not followed; get the file again")
        group = group[part]
    return group


def _values(where: str, dataset: Any) -> np.ndarray:
    """Return a data set's values, float32, if they are real and finite."""
    import h5py

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
    chunk = math.prod(dataset.chunks or (0,))  # read whole, even if the values are few
    if dataset.size > MOST_VALUES or chunk > max(dataset.size, 1 << 24):
        raise InputError(f"{where} claims {max(dataset.size, chunk):,} values; expected at most {MOST_VALUES:,}")
    with np.errstate(over="ignore"):
        values = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{where} is not finite; train the classifier again, or get the file again")
    return np.asarray(values)
