"""A classifier's weights: an HDF5 file as Keras 2 writes it, read in a process of its own.

HDF5's library may crash or spin on a crafted file; there it takes nothing with it, and has limits on time and memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError
from .reading import line_of, opened

#: Arrays by the layer's name and their own, in the file's order.
Weights = Mapping[str, Mapping[str, np.ndarray]]

MOST_VALUES = 200_000_000
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  #: by their number in HDF5; others may load libraries
SECONDS = 20  #: of the processor, and one more for each 20 MB


@contextlib.contextmanager
def reading_weights(path: Path, seconds: float = SECONDS) -> Iterator[Callable[[], Weights]]:
    """Start to read weights, and yield what waits for them; the file's reader ends with the context.

    Parameters
    ----------
    path : Path
    seconds : float
        Processor time for a small file.

    Yields
    ------
    callable
        Returns the weights, float32 and finite, or raises InputError.
    """
    code = "import sys; sys.path[:] = sys.argv.pop().splitlines(); from hsn_v1.files import weights; weights._main()"
    with opened(path) as file:
        limit = math.ceil(seconds + os.fstat(file.fileno()).st_size / 2e7)
    reader = subprocess.Popen(
        [sys.executable, "-c", code, os.fsdecode(path), str(limit), "\n".join(sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PATH": "::", "HDF5_USE_FILE_LOCKING": "FALSE"},
    )

    def result() -> Weights:
        try:
            output, _ = reader.communicate(timeout=3 * limit)
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: could not be read in {3 * limit} s; get the file again") from None
        if reader.returncode:
            raise InputError(f"{path}: damaged so that HDF5 cannot read it; get the file again")
        return _unpacked(output)

    try:
        yield result
    finally:
        reader.kill()
        reader.communicate()


def _unpacked(output: bytes) -> Weights:
    header, _, content = output.partition(b"\n")
    found = json.loads(header)
    if "error" in found:
        raise InputError(found["error"])
    values, start, weights = np.frombuffer(content, np.float32), 0, {}
    for layer, arrays in found["layers"]:
        weights[layer] = {}
        for name, shape in arrays:
            stop = start + math.prod(shape)
            weights[layer][name] = values[start:stop].reshape(shape)
            start = stop
    return weights


def _main() -> None:
    """Read the weights of the file that the first argument names, and write them to standard output."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    _limit_resources(limit)
    try:
        weights = read_hdf5(path)
        header = {"layers": [(k, [(n, values.shape) for n, values in v.items()]) for k, v in weights.items()]}
    except InputError as error:
        weights, header = {}, {"error": str(error)}
    _write(sys.stdout.buffer, header, weights)


def _write(output: BinaryIO, header: dict[str, Any], weights: Weights) -> None:
    output.write(json.dumps(header).encode() + b"\n")
    for arrays in weights.values():
        for values in arrays.values():
            output.write(np.ascontiguousarray(values).data)
    output.flush()


def _limit_resources(seconds: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none; macOS refuses some
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))


def read_hdf5(path: Path) -> Weights:
    """Read weights in this process; see `reading_weights`, which trusts the file less."""
    import h5py

    try:
        with h5py.File(path) as file:
            top = _member(path, file, "model_weights") if "model_weights" in file else file
            weights = {}
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
