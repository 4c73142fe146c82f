"""Start Keras quietly, on TensorFlow and few threads, and in float32 whatever the user's settings of Keras say."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from .errors import InputError

#: Bytes of address space that TensorFlow, its threads and a first classifier reserve; they use a third of it.
ADDRESS_SPACE = 4_000_000_000

MOST_WORKERS = 1024  #: greatest number of worker processes

LARGEST_SETTINGS = 1 << 20  #: greatest size of keras.json, in bytes

#: Environment variables that Keras reads, and their values here. The last three would change or cut short its work.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    "KERAS_MAX_EPOCHS": None,
    "KERAS_MAX_STEPS_PER_EPOCH": None,
}


def import_keras() -> ModuleType:
    """Import Keras, on first use and without TensorFlow's start-up messages.

    Keras computes with TensorFlow, in float32 and with channels last, as classifiers expect. KERAS_BACKEND and
    ``~/.keras/keras.json`` are overridden. Raises InputError if TensorFlow cannot be loaded, if Keras' settings cannot
    be read, or if Keras already runs on another backend.
    """
    if "keras" not in sys.modules:
        check_machine()
        check_settings()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with outside_garbage_collection(), environment(ENVIRONMENT):
            _load()
    keras = importlib.import_module("keras")
    if keras.config.backend() != "tensorflow":
        raise InputError(f"Keras runs on {keras.config.backend()} in this process: set KERAS_BACKEND=tensorflow before")
    logging.getLogger("tensorflow").addFilter(_is_no_advice)
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return keras


def _load() -> None:
    # Keras imports these, if installed, for wrappers and plots that nothing here uses. That takes most of a second.
    unwanted = {"sklearn", "matplotlib"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(unwanted))
    try:
        importlib.import_module("keras")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"keras.json in ~/.keras or KERAS_HOME: {error}; correct or remove it") from error
    except (ImportError, MemoryError) as error:
        raise InputError(f"TensorFlow cannot be loaded: {error}") from error
    finally:
        for name in unwanted:
            del sys.modules[name]


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Return False for TensorFlow's advice against retracing, which images of many sizes cannot follow."""
    return "retracing" not in record.getMessage()


def check_settings() -> None:
    """Raise InputError if Keras' settings file is a pipe, a device or too large, which would block the import."""
    homes = [os.environ["KERAS_HOME"]] if "KERAS_HOME" in os.environ else ["~/.keras", "/tmp/.keras"]
    for path in (Path(home).expanduser() / "keras.json" for home in homes):
        if path.exists() and not (path.is_file() and path.stat().st_size <= LARGEST_SETTINGS):
            raise InputError(f"{path}: not a regular file, or larger than {LARGEST_SETTINGS:,} bytes; remove it")


def check_machine() -> None:
    """Raise InputError without /proc or enough address space: TensorFlow or a worker would die without a message."""
    if sys.platform == "linux" and not Path("/proc/self").exists():
        raise InputError("TensorFlow and workers need /proc, which is not there: mount it")
    if narrow := narrow_memory():
        raise InputError(narrow)


def narrow_memory(least: int = ADDRESS_SPACE) -> str:
    """Return a message if this process's address space is limited to fewer than `least` bytes, else ""."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if 0 <= limit < least:
            return (
                f"TensorFlow takes about {ADDRESS_SPACE / 1e9:.0f} GB of address space, and this process may have "
                f"{limit / 1e9:.1f} GB: raise the limit (ulimit -v)"
            )
    return ""


@contextlib.contextmanager
def outside_garbage_collection() -> Iterator[None]:
    """Load lasting objects, such as libraries: the garbage collector searches them neither again nor at exit."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, or unset those of value None, and restore all of them afterwards."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hide the messages that TensorFlow's libraries print while they start; show them if the start fails."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except Exception:
            messages.seek(0)
            os.write(screen, messages.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def limit_threads(threads: int) -> None:
    """Set TensorFlow's number of threads; without effect once TensorFlow is in use in this process."""
    from tensorflow.config import threading

    with contextlib.suppress(RuntimeError):  # TensorFlow is already in use, and keeps its threads
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)


def has_fast_bfloat16() -> bool:
    """Tell whether the processor has bfloat16 instructions; False if /proc/cpuinfo cannot be read."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
