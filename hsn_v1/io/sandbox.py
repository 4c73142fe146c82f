"""Sandbox: read files of unknown origin in a separate process.

HDF5's library, SciPy's reader of MATLAB files, and the libraries that decode slides and images may crash, spin or take
all memory on a damaged or crafted file. In the sandbox they harm no other process; time and memory are limited.

A reader gets requests on its standard input, one per line. It answers with a line of JSON, in which arrays are
replaced by their type and shape; the arrays' bytes follow.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil

from ..errors import InputError
from ..parallel import follow
from .reading import opened

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS = 60.0  #: processor time for each request, plus one second per 20 MB of the file
PATIENCE = 5  #: factor for time by the clock: a machine may be busy, but a reader that sleeps must end
MEMORY = 4 << 30  #: most bytes of address space; less if less is free
IDLE = 4  #: most readers that are kept for the next file

#: Names of the memory limit, the memory in use and its droppable file cache, in Linux' two kinds of control groups.
NAMES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

_idle: list[subprocess.Popen] = []
_busy: set[subprocess.Popen] = set()  # keeps readers from garbage collection until they have ended


@contextlib.contextmanager
def sandbox_for(path: Path) -> Iterator[Callable[..., Any]]:
    """Start a reader for a file; yield a function that calls functions there, from any thread, one at a time.

    ``ask(function, *arguments)`` returns the result of ``function(path, *arguments)`` in the reader. The function is a
    module's, its arguments are numbers or words, its result JSON values and NumPy arrays. `ask` raises InputError if
    the function does, or if the reader dies, or takes too much time or memory.
    """
    turn, seconds = threading.Lock(), _time_for(path)
    with _reader() as process:

        def ask(function: Callable, *arguments: object) -> Any:
            with turn:
                return _requested(process, path, function, arguments, seconds)()

        yield ask


@contextlib.contextmanager
def reading_in_sandbox(read: Callable[[Path], Any], path: Path) -> Iterator[Callable[[], Any]]:
    """Start to read a file; yield a function that waits for the result of `read`, with errors as in `sandbox_for`."""
    seconds = _time_for(path)
    with _reader() as process:
        yield _requested(process, path, read, (), seconds)


def _time_for(path: Path) -> float:
    with opened(path) as file:
        return SECONDS + os.fstat(file.fileno()).st_size / 2e7


@contextlib.contextmanager
def _reader() -> Iterator[subprocess.Popen]:
    """Yield a reader; keep it for the next file unless an error occurs."""
    process = _idle.pop() if _idle else _started()
    if process.poll() is not None:  # killed while it was idle
        _end(process)
        process = _started()
    _busy.add(process)
    try:
        yield process
    except BaseException:
        _end(process)
        raise
    finally:
        _busy.discard(process)
    if process.poll() is not None or len(_idle) >= IDLE:
        _end(process)
    else:
        _idle.append(process)


def _started() -> subprocess.Popen:
    code = "import sys; sys.path[:] = sys.argv.pop().splitlines(); from hsn_v1.io.sandbox import serve; serve()"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(os.getpid()), "\n".join(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PATH": "::", "HDF5_USE_FILE_LOCKING": "FALSE"},
    )


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # a request that was never read
            pipe.close()


@atexit.register
def end_readers() -> None:
    """Kill all readers; threads that wait for one get an InputError at once."""
    for process in _busy:
        process.kill()
        process.wait()
    while _idle:
        _end(_idle.pop())


if hasattr(os, "register_at_fork"):  # readers serve the parent, not a forked child
    os.register_at_fork(after_in_child=lambda: (_idle.clear(), _busy.clear()))


def _requested(
    process: subprocess.Popen, path: Path, function: Callable, arguments: tuple, seconds: float
) -> Callable[[], Any]:
    """Send a request; return a function that waits for the answer."""
    if sys.is_finalizing():  # the interpreter would wait for ever for the timer's thread to start
        raise InputError(f"{path}: not read, as the program ends")
    number = time.monotonic_ns()
    request = [number, os.getcwd(), function.__module__, function.__name__, seconds, os.fspath(path), arguments]
    by_the_clock = seconds * (PATIENCE if resource else 1)
    timer = threading.Timer(by_the_clock, process.kill)
    timer.daemon = True
    timer.start()
    with contextlib.suppress(OSError):  # a reader that died is noticed below
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()

    def answer() -> Any:
        try:
            reply = json.loads(process.stdout.readline(), object_hook=partial(_with_array, process.stdout))
        except (ValueError, EOFError, RecursionError):
            reply = {}
        late = timer.finished.is_set()
        timer.cancel()
        if reply.get("number") != number:  # no answer, or that to an abandoned request
            _end(process)
            reason = "so damaged that its reader died"
            if late:
                reason = f"could not be read in {by_the_clock:.0f} s"
            elif process.returncode == -getattr(signal, "SIGXCPU", 0):
                reason = f"could not be read in {seconds:.0f} s of processor time"
            raise InputError(f"{path}: {reason}; get the file again")
        if "error" in reply:
            raise InputError(reply["error"])
        return reply["value"]

    return answer


def _pack(value: object, stream: BinaryIO) -> None:
    arrays: list[np.ndarray] = []

    def stand_in(array: np.ndarray) -> dict:
        arrays.append(np.ascontiguousarray(array))
        return {"array": [array.dtype.str, list(array.shape)]}

    stream.write(json.dumps(value, default=stand_in).encode() + b"\n")
    for array in arrays:
        stream.write(array.data.cast("B") if array.size else b"")
    stream.flush()


def _with_array(stream: BinaryIO, item: dict) -> dict | np.ndarray:
    """Read the array of a stand-in from the stream; the parser meets stand-ins in the order of writing."""
    if list(item) != ["array"] or not isinstance(item["array"], list):
        return item
    kind, shape = item["array"]
    array = np.empty(shape, kind)
    if array.size and stream.readinto(array.data.cast("B")) < array.nbytes:
        raise EOFError
    return array


# --- The reader's side ------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests until the input ends, or the parent process is gone."""
    follow(int(sys.argv[1]))
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for libraries that print
    _limit_memory()
    for line in sys.stdin.buffer:
        number, folder, module, name, seconds, path, arguments = json.loads(line)
        os.chdir(folder)
        _limit_processor_time(seconds)
        try:
            reply = {"value": getattr(import_module(module), name)(Path(path), *arguments)}
        except InputError as error:
            reply = {"error": str(error)}
        except MemoryError:
            reply = {"error": f"{path}: takes more memory to read than there is; free some, or convert the file"}
        _pack(reply | {"number": number}, output)


def _limit_memory() -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has none; macOS refuses some
        most = min(MEMORY, max(1 << 30, available_memory()))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_processor_time(seconds: float) -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def available_memory(groups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """Return the bytes of memory that this process may still take.

    `groups` is Linux' list of this process's control groups, `root` the folder with the groups' limits.
    """
    try:
        free = psutil.virtual_memory().available
    except OSError:  # no /proc
        free = sys.maxsize
    return max(0, min([free, *_left(Path(groups), Path(root))]))


def _left(groups: Path, root: Path) -> Iterator[int]:
    """Yield the bytes left in each of this process's control groups, and in each group around it."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, kind, place in (line.split(":", 2) for line in lines):
        if kind not in NAMES:
            continue
        limit, usage, droppable = NAMES[kind]
        group = root / kind / place.strip("/")
        while group.is_relative_to(root / kind):
            try:
                used = int((group / usage).read_text())
                facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                yield int((group / limit).read_text()) - used + int(facts.get(droppable, 0))
            except (OSError, ValueError):  # no limit ("max"), or invisible inside a container
                pass
            group = group.parent
