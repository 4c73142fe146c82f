"""How Keras starts: on TensorFlow, quietly, on few threads, as published whatever the user's settings of Keras say."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from .errors import InputError

#: Bytes of address space that TensorFlow, its threads and a first classifier take, though they touch a third of them.
ADDRESS_SPACE = 4_000_000_000

MOST_WORKERS = 1024  #: processes beside this one

LARGEST_SETTINGS = 1 << 20  #: bytes of keras.json

#: What the environment may tell Keras, and what holds here: the last three would change or shorten what it computes.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    "KERAS_MAX_EPOCHS": None,
    "KERAS_MAX_STEPS_PER_EPOCH": None,
}


def import_keras() -> ModuleType:
    """Import Keras, on first use and without TensorFlow's start-up messages.

    It computes with TensorFlow, in float32 and with channels last, whatever KERAS_BACKEND and ``~/.keras/keras.json``
    say: classifiers are described for these. Raises InputError if TensorFlow cannot be loaded, or Keras' own settings
    cannot be read, or it runs on another backend already.
    """
    if "keras" not in sys.modules:
        check_machine()
        check_settings()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports these, if it can, for wrappers and plots that nobody needs here: most of a second.
    unwanted = {"sklearn", "matplotlib"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(unwanted))
    try:
        with environment(ENVIRONMENT):
            keras = importlib.import_module("keras")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"keras.json in ~/.keras or KERAS_HOME: {error}; correct or remove it") from error
    except (ImportError, MemoryError) as error:
        raise InputError(f"TensorFlow cannot be loaded: {error}") from error
    finally:
        for name in unwanted:
            del sys.modules[name]
    if keras.config.backend() != "tensorflow":
        raise InputError(f"Keras runs on {keras.config.backend()} in this process: set KERAS_BACKEND=tensorflow before")
    logging.getLogger("tensorflow").addFilter(_is_no_advice)
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return keras


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Tell a message from TensorFlow's advice on how to call it, which is not for who looks at images of many sizes."""
    return "retracing" not in record.getMessage()


def check_settings() -> None:
    """Raise InputError if Keras would wait for its settings: at a pipe, or at what has no end."""
    homes = [os.environ["KERAS_HOME"]] if "KERAS_HOME" in os.environ else ["~/.keras", "/tmp/.keras"]
    for path in (Path(home).expanduser() / "keras.json" for home in homes):
        if path.exists() and not (path.is_file() and path.stat().st_size <= LARGEST_SETTINGS):
            raise InputError(f"{path}: not a regular file, or larger than {LARGEST_SETTINGS:,} bytes; remove it")


def check_machine() -> None:
    """Raise InputError where TensorFlow, or a worker, would end the process without a word of use."""
    if sys.platform == "linux" and not Path("/proc/self").exists():
        raise InputError("TensorFlow and workers need /proc, which is not there: mount it")
    if narrow := narrow_memory():
        raise InputError(narrow)


def narrow_memory(least: int = ADDRESS_SPACE) -> str:
    """Return a line on a limit of this process's address space below so many bytes, or nothing."""
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
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment, or take them out (None), and put them back as they were."""
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
    """Keep off the screen what TensorFlow's libraries print while they start; let it through if they fail."""
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
    """Let TensorFlow use so many threads, from its first use in this process on; no effect after that."""
    from tensorflow.config import threading

    with contextlib.suppress(RuntimeError):  # it is at work already, with the threads that it has
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)


def has_fast_bfloat16() -> bool:
    """Tell whether the processor has instructions for bfloat16, as far as the system says."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
