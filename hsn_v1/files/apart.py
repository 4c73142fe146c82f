"""Arrays from files of unknown origin, read in a process of its own.

HDF5's library, and SciPy's reader of MATLAB files, may crash or spin on a damaged or crafted file. There they take
nothing with them, and have limits on time and memory.
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

import numpy as np

from ..errors import InputError
from .reading import opened

#: Numbers by two names, in the file's order.
Arrays = Mapping[str, Mapping[str, np.ndarray]]

SECONDS = 10  #: of the processor, and one more for each 20 MB
MEMORY = 1 << 32  #: bytes of address space


@contextlib.contextmanager
def reading_apart(
    read: Callable[[Path], Arrays], path: Path, seconds: float = SECONDS
) -> Iterator[Callable[[], Arrays]]:
    """Start to read a file, and yield what waits for its content; the reader ends with the context.

    Parameters
    ----------
    read : callable
        A function of a module: returns arrays of numbers, or raises InputError.
    path : Path
    seconds : float
        Processor time for a small file.

    Yields
    ------
    callable
        Returns what `read` returns. Raises InputError if that does, or if the reader dies or takes too long.
    """
    code = (
        "import sys; sys.path[:] = sys.argv.pop().splitlines(); from hsn_v1.files.apart import main; "
        f"from {read.__module__} import {read.__name__}; main({read.__name__})"
    )
    with opened(path) as file:
        limit = math.ceil(seconds + os.fstat(file.fileno()).st_size / 2e7)
    reader = subprocess.Popen(
        [sys.executable, "-c", code, os.fsdecode(path), str(limit), "\n".join(sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PATH": "::", "HDF5_USE_FILE_LOCKING": "FALSE"},
    )

    def result() -> Arrays:
        try:
            output, _ = reader.communicate(timeout=6 * limit)
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: could not be read in {6 * limit} s; get the file again") from None
        if reader.returncode:
            raise InputError(f"{path}: so damaged that its reader died; get the file again")
        return _unpacked(output)

    try:
        yield result
    finally:
        reader.kill()
        reader.communicate()


def _unpacked(output: bytes) -> Arrays:
    header, _, content = output.partition(b"\n")
    found = json.loads(header)
    if "error" in found:
        raise InputError(found["error"])
    start, arrays = 0, {}
    for first, second, kind, shape in found["arrays"]:
        values = np.frombuffer(content, kind, math.prod(shape), start)
        arrays.setdefault(first, {})[second] = values.reshape(shape)
        start += values.nbytes
    return arrays


def main(read: Callable[[Path], Arrays]) -> None:
    """Read the file that the first argument names, and write its arrays to standard output: the reader's own work."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    _limit_resources(limit)
    try:
        arrays = read(path)
        named = [(first, second, values) for first, each in arrays.items() for second, values in each.items()]
        header = {"arrays": [(first, second, v.dtype.str, v.shape) for first, second, v in named]}
    except InputError as error:
        named, header = [], {"error": str(error)}
    output = sys.stdout.buffer
    output.write(json.dumps(header).encode() + b"\n")
    for _, _, values in named:
        output.write(values.tobytes())
    output.flush()


def _limit_resources(seconds: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none; macOS refuses some
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
