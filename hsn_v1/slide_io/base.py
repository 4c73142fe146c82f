"""Interface of all backends: the levels of RGB pixels of a slide or image, and the scale that its file states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.reading import line_of
from ..io.sandbox import available_memory
from ..tiles import Window
from .scale import Mpp

#: Most pixels of an image that is decoded as a whole, and the bytes per pixel that this may take.
DECODED_PIXELS, DECODED_BYTES = 400_000_000, 8
CONVERT = "convert it to a tiled, pyramidal TIFF, such as by: vips tiffsave IN OUT.tif --tile --pyramid"


@dataclass(frozen=True)
class Level:
    """One resolution of a slide."""

    height: int  #: in px of this level
    width: int
    region: Callable[[Window], np.ndarray]  #: reads a window inside the level, (height, width, 3) uint8


@dataclass(frozen=True)
class SlideFile:
    """An opened slide or image file, as its backend reads it."""

    levels: tuple[Level, ...]  #: full resolution first
    mpp: tuple[Mpp, ...]  #: scales that the file states in different places, plausible or not, the best place first
    objective: str | None = None  #: magnification that the file names
    notes: tuple[str, ...] = ()  #: for the user, without the file's name
    corner: tuple[int, int] = (0, 0)  #: first row and column, in full resolution, of the part that viewers show
    close: Callable[[], None] = lambda: None


def on_background(rgba: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """Blend transparent pixels, (H, W, 4) uint8, with a background colour; all transparency is handled here."""
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(colours)
    share = alpha.astype(np.float32) / 255
    return np.rint(share * colours + (1 - share) * np.float32(background)).astype(np.uint8)


def orientation_notes(orientation: int | None) -> list[str]:
    """Return a note if a file has an orientation tag: pixels are taken as stored, as slide viewers do."""
    note = f"its orientation tag ({orientation}) is not applied: pixels are taken as they are stored, as QuPath does"
    return [] if orientation in (None, 0, 1) else [note]


def overlapping(window: Window, height: int, width: int) -> Iterator[tuple[Window, tuple, tuple]]:
    """Yield the tiles of `height` by `width` px that a window overlaps, with the overlap's place in tile and window."""
    for top in range(window.top - window.top % height, window.bottom, height):
        for left in range(window.left - window.left % width, window.right, width):
            tile = Window(top, left, height, width)
            shared = tile.overlap(window)
            yield tile, shared.within(tile), shared.within(window)


def check_size(path: Path, height: int, width: int) -> None:
    """Raise InputError if an image is too large to be decoded as a whole, at all or in the free memory."""
    possible = min(DECODED_PIXELS, available_memory() // DECODED_BYTES)
    if height * width > possible:
        why = " with the memory that is free" if possible < DECODED_PIXELS else ""
        raise InputError(
            f"{path}: {width} x {height} px in one piece, of which at most {possible / 1e6:.4g} megapixels can be read"
            f"{why}; {CONVERT}"
        )


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn the exceptions of decoders, which are of all types, into InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path}: not a slide or image, or damaged ({line_of(error)}); get the file again") from error
