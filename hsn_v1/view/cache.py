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
    """The least recently used entries go first. Threads that ask for the same entry make it once.

    Parameters
    ----------
    limit : float
        Cost that all entries together may have; the newest is kept whatever its cost.
    cost : callable
        Cost of a value; by default each costs 1.
    """

    def __init__(self, limit: float, cost: Callable[[Any], float] = lambda value: 1):
        self._limit, self._cost = limit, cost
        self._values: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made if it is not there; what `make` raises is not kept."""
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
                self._keep(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def _keep(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._values[key] = value, self._cost(value)
            while sum(cost for _, cost in self._values.values()) > self._limit and len(self._values) > 1:
                self._values.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Forget an entry."""
        with self._lock:
            self._values.pop(key, None)


def stamp(path: Path) -> tuple[str, int, int]:
    """Return a key that changes with a file; FileNotFoundError if it is gone, or no regular file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would never end
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    return str(path), status.st_mtime_ns, status.st_size
