"""A bounded cache of opened files and computed values, renewed when their files change."""

from __future__ import annotations

import errno
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any


class Cache:
    """A least-recently-used cache. If several threads ask for a missing entry, it is made once.

    `limit` is the greatest cost of all entries together; an entry costs 1, or ``cost(value)``. The newest entry is kept
    even if it exceeds the limit alone.
    """

    def __init__(self, limit: float, cost: Callable[[Any], float] = lambda value: 1):
        self._limit, self._cost, self._total = limit, cost, 0.0
        self._values: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, and make it if it is missing; errors of `make` are raised and not cached."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key][0]
            try:
                value = make()
                with self._lock:
                    self._values[key] = value, self._cost(value)
                    self._total += self._values[key][1]
                    while self._total > self._limit and len(self._values) > 1:
                        self._total -= self._values.popitem(last=False)[1][1]
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def drop(self, key: Hashable) -> None:
        """Remove an entry, if it is there."""
        with self._lock:
            self._total -= self._values.pop(key, (None, 0))[1]


def stamp(path: Path) -> tuple[str, int, int]:
    """Return a key that changes with a file; raise FileNotFoundError if it is gone, or no regular file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would never end
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    return str(path), status.st_mtime_ns, status.st_size
