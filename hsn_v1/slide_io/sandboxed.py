"""Slides and images, opened and decoded in a process of their own, as their libraries may abort or hang."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..io.sandbox import sandbox_for
from ..tiles import Window
from .base import Level, Source, one_line
from .formats import open_source


@contextlib.contextmanager
def opened_in_sandbox(path: Path) -> Iterator[Source]:
    """Open a slide or image in a process of its own.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Source
        Its levels are read there, by any thread.

    Raises
    ------
    InputError
        As by `open_source`, and if the file is such that its reader dies, takes too long or too much memory; so do the
        levels' ``region``.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a slide' if path.is_dir() else 'no such file'}")
    with sandbox_for(path) as ask:

        def level(number: int, height: int, width: int) -> Level:
            return Level(height, width, lambda window: ask(read_region, number, *astuple(window)))

        facts = ask(describe)
        if min(facts["sizes"][0]) < 1:
            raise InputError(f"{path}: damaged: it has no pixels; get the file again")
        levels = tuple(level(number, *size) for number, size in enumerate(facts["sizes"]) if min(size) > 0)
        pairs = tuple(map(tuple, facts["scales"]))
        yield Source(levels, pairs, facts["objective"], tuple(facts["notes"]), tuple(facts["corner"]))
        with contextlib.suppress(InputError):  # it is dead
            ask(forget)


# --- The reader's side ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _source(path: Path) -> Source:
    return open_source(path)


def describe(path: Path) -> dict[str, Any]:
    """Open a file, and return what there is to know of it; it stays open."""
    source = _source(path)
    return {
        "sizes": [(level.height, level.width) for level in source.levels],
        "scales": source.scales,
        "objective": source.objective,
        "notes": source.notes,
        "corner": source.corner,
    }


def read_region(path: Path, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a window of a level, (height, width, 3) uint8."""
    with one_line(path):
        return _source(path).levels[level].region(Window(top, left, height, width))


def forget(path: Path) -> None:
    """Close the file."""
    _source(path).close()
    _source.cache_clear()
