"""How Keras starts: quietly, on few threads, and with what this processor is fast at."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .errors import InputError


def import_keras() -> ModuleType:
    """Import Keras, on first use and without TensorFlow's start-up messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports these, if it can, for wrappers and plots that nobody needs here: most of a second.
    unwanted = {"sklearn", "matplotlib"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(unwanted))
    try:
        return importlib.import_module("keras")
    finally:
        for name in unwanted:
            del sys.modules[name]


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
