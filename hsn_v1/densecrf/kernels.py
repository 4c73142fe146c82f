"""Loops that Numba compiles once for this machine, and the threads that share them.

No trouble with the files that Numba keeps stops a run. Compiled loops and NumPy do not hold the interpreter lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from numba import config, njit
from numba.core.caching import FunctionCache

from ..errors import InputError

LEAST = 1 << 12  # rows worth a task of their own


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


def spans(n: int, threads: int) -> list[tuple[int, int]]:
    """Cut 0 to n into ranges, two for each thread; no result depends on where they are cut."""
    size = n if threads == 1 else max(LEAST, -(-n // (2 * threads)))
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def each(threads: int, task, arguments: list[tuple]) -> list:
    """Run a task on all arguments, and wait."""
    if threads == 1 or len(arguments) == 1:
        return [task(*args) for args in arguments]
    return list(_pool(threads).map(task, *zip(*arguments, strict=True)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "lattice")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child inherits the pool, but not its threads
