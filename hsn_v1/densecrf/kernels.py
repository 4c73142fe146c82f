"""Kernels: loops that Numba compiles once for this machine, and the threads that run them.

Problems with Numba's cache files never stop a run. Kernels and NumPy release the interpreter lock.
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

LEAST = 1 << 12  # least number of rows of a task


class KernelCache(FunctionCache):
    """Cache of a function's machine code on disk. A damaged file is ignored, and written again if possible."""

    def load_overload(self, sig, target_context):
        """Return the machine code of a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # Numba passes on any error of its readers
            with contextlib.suppress(OSError):
                self.flush()

    def save_overload(self, sig, data):
        """Keep the machine code of a signature, if possible."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Callable) -> Callable:
    """Compile a function by Numba at its first call, and cache the machine code for later runs.

    If no cache can be written, neither beside the function nor at home, each run compiles it.
    """
    if config.DISABLE_JIT:
        return refuse
    compiled = njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # "no locator available": no folder for the cache
        compiled._cache = KernelCache(function)
    return compiled


def refuse(*_) -> None:
    """Raise InputError: kernels use vectors and prefetches, which Python does not have."""
    raise InputError("NUMBA_DISABLE_JIT is set, but the CRF has to be compiled: unset it")


def spans(n: int, threads: int) -> list[tuple[int, int]]:
    """Cut 0 to n into ranges, two for each thread; results do not depend on the cuts."""
    size = n if threads == 1 else max(LEAST, -(-n // (2 * threads)))
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def in_threads(threads: int, task, arguments: list[tuple]) -> list:
    """Run a task on all arguments in threads; return the results in order."""
    if threads == 1 or len(arguments) == 1:
        return [task(*args) for args in arguments]
    return list(_pool(threads).map(task, *zip(*arguments, strict=True)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "lattice")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child inherits the pool, but not its threads
