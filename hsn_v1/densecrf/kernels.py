"""Loops that Numba compiles once for this machine; no trouble with the files that it keeps of them stops a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from numba import config, njit
from numba.core.caching import FunctionCache

from ..errors import InputError


class KernelCache(FunctionCache):
    """A function's machine code on disk: a damaged file counts as none, and is made anew where there is room."""

    def load_overload(self, sig, target_context):
        """Return the machine code of a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # Numba raises whatever its readers do
            with contextlib.suppress(OSError):
                self.flush()

    def save_overload(self, sig, data):
        """Keep the machine code of a signature, if possible."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Callable) -> Callable:
    """Have Numba compile a function when it is first called, and keep the machine code for later runs.

    Where nothing can be written, neither beside the function nor at home, it is compiled in each run.
    """
    if config.DISABLE_JIT:
        return refuse
    compiled = njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # "no locator available", of a place for the files
        compiled._cache = KernelCache(function)
    return compiled


def refuse(*_) -> None:
    """Raise InputError: kernels are vectors and prefetches, which Python does not have."""
    raise InputError("NUMBA_DISABLE_JIT is set, but the CRF has to be compiled: unset it")
