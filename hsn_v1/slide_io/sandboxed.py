"""Slides and images, opened and decoded in a sandbox, as their libraries may abort or hang."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..io.sandbox import sandbox_for
from ..tiles import Window
from .base import Level, SlideFile, decoding
from .formats import open_slide_file


@contextlib.contextmanager
def opened_in_sandbox(path: Path) -> Iterator[SlideFile]:
    """Open a slide or image in a process of its own, which its levels' ``region`` asks; any thread may call them.

    Both raise InputError as `open_slide_file` does, and if the reader dies, takes too long or too much memory.
    """
    if not path.is_file():
        other = "a folder, not a slide" if path.is_dir() else "a pipe or a device, not a file"
        raise InputError(f"{path}: {other if path.exists() else 'no such file'}")
    with sandbox_for(path) as ask:

        def level(number: int, height: int, width: int) -> Level:
            return Level(height, width, lambda window: ask(read_region, number, *astuple(window)))

        facts = ask(describe)
        if min(facts["sizes"][0]) < 1:
            raise InputError(f"{path}: damaged: it has no pixels; get the file again")
        levels = tuple(level(number, *size) for number, size in enumerate(facts["sizes"]) if min(size) > 0)
        mpp = tuple(map(tuple, facts["mpp"]))
        yield SlideFile(levels, mpp, facts["objective"], tuple(facts["notes"]), tuple(facts["corner"]))
        with contextlib.suppress(InputError):  # it is dead
            ask(forget)


# --- In the sandbox ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _opened(path: Path) -> SlideFile:
    Image.MAX_IMAGE_PIXELS = None  # `check_size` has the last word
    return open_slide_file(path)


def describe(path: Path) -> dict[str, Any]:
    """Open a file, and return what there is to know of it; it stays open."""
    file = _opened(path)
    return {
        "sizes": [(level.height, level.width) for level in file.levels],
        "mpp": file.mpp,
        "objective": file.objective,
        "notes": file.notes,
        "corner": file.corner,
    }


def read_region(path: Path, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a window of a level, (height, width, 3) uint8."""
    with decoding(path):
        return _opened(path).levels[level].region(Window(top, left, height, width))


def forget(path: Path) -> None:
    """Close the file."""
    _opened(path).close()
    _opened.cache_clear()
