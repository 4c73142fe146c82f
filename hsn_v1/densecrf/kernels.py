"""Loops that Numba compiles once for this machine, whose cache heals: a file that cannot be read counts as none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numba import njit

if TYPE_CHECKING:
    from numba.core.caching import IndexDataCacheFile


def kernel(function: Callable) -> Callable:
    """Have Numba compile a function when it is first called, and keep the machine code for later runs."""
    compiled = njit(cache=True, nogil=True)(function)
    files = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if files:
        _heal(files)
    return compiled


def _heal(files: IndexDataCacheFile) -> None:
    """Let no damaged file and no full disk stop a function: Numba raises what its readers and the system do."""
    load_index, load_data, save = files._load_index, files._load_data, files.save

    def index() -> dict:
        try:
            return load_index()
        except Exception:
            return {}

    def data(name: str) -> Any:
        try:
            return load_data(name)
        except Exception as error:
            raise OSError(f"{name}: damaged") from error  # which Numba takes for a missing file

    def save_if_possible(key: Any, content: Any) -> None:
        with contextlib.suppress(OSError):
            save(key, content)

    files._load_index, files._load_data, files.save = index, data, save_if_possible
