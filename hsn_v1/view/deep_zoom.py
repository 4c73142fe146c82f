"""Deep-zoom tiles of slides, by OpenSlide: the part that runs in a reader's process (see `io.sandbox`)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..slide_io.tifffile_backend import is_tiff, suits_openslide

if TYPE_CHECKING:
    from openslide.deepzoom import DeepZoomGenerator

TILE, OVERLAP = 510, 1  #: inner side of a tile and what it shows of each neighbour, in px


@lru_cache(maxsize=1)
def _tiles(path: Path) -> DeepZoomGenerator:
    from openslide import OpenSlide
    from openslide.deepzoom import DeepZoomGenerator

    # Where the file says which part was scanned, that part: label maps and outlines begin at its corner.
    return DeepZoomGenerator(OpenSlide(path), TILE, OVERLAP, limit_bounds=True)


def size_of(path: Path) -> tuple[int, int] | None:
    """Open a slide and return its height and width, or None if OpenSlide does not show it as it is.

    Raises
    ------
    InputError
        If it is damaged.
    """
    import openslide

    try:
        vendor, tiff = openslide.OpenSlide.detect_format(path), is_tiff(path)
        if not vendor or (vendor == "generic-tiff" and tiff and not suits_openslide(path)):
            return None
        return _tiles(path).level_dimensions[-1][::-1]
    except openslide.OpenSlideError as error:
        if tiff:
            return None
        raise damaged(path, error) from error


def tile_of(path: Path, level: int, column: int, row: int) -> np.ndarray:
    """Return a tile, (height, width, 3) uint8."""
    try:
        return np.asarray(_tiles(path).get_tile(level, (column, row)).convert("RGB"))
    except Exception as error:
        _tiles.cache_clear()  # a handle that met damage answers with this from then on
        raise damaged(path, error) from error


def overview_of(path: Path) -> np.ndarray:
    """Return the whole slide, (height, width, 3) uint8, as large as one tile can show it."""
    sizes = _tiles(path).level_dimensions
    return tile_of(path, max(level for level, size in enumerate(sizes) if max(size) <= TILE), 0, 0)


def forget(path: Path) -> None:
    """Close the slide."""
    _tiles.cache_clear()


def damaged(path: Path, error: Exception) -> InputError:
    """Return the error that a file is to be answered with when a reader met another one."""
    return InputError(f"{path}: cannot be read, or damaged ({' '.join(str(error).split())[:200]}); get the file again")
