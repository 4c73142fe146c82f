"""Share one computation among threads: NumPy and the compiled kernels do not hold the interpreter lock."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

LEAST = 1 << 12  # rows worth a task of their own


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
