"""Pyramids of tiles, built strip by strip from the top, and resampling between grids of the same field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np

from ..tiles import Window

Tile = TypeVar("Tile")


def halvings(side: int, tile: int) -> int:
    """Return the number of halvings, rounded up, until a tile holds a side: a pyramid's levels below the first."""
    return ((side - 1) // tile).bit_length()


def halve(strip: np.ndarray) -> np.ndarray:
    """Take every second pixel of a strip: class indices cannot be averaged."""
    return strip[::2, ::2]


def average(strip: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of `factor` px of an RGB strip; incomplete squares at its edges are dropped."""
    height, width = (side // factor for side in strip.shape[:2])
    if not height:
        return np.empty((0, width, 3), np.uint8)
    return cv2.resize(strip[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def pyramid_tiles(
    strips: Iterable[np.ndarray],
    smaller: list[list[Tile]],
    tile: int,
    encode: Callable[[np.ndarray], Tile],
    reduce: Callable[[np.ndarray], np.ndarray] = halve,
    fill: str = "constant",
) -> Iterator[Tile]:
    """Cut an image that comes in strips into a pyramid's encoded tiles, row by row; memory holds one strip per level.

    Strips of (tile, W, ...) are full resolution, from the top; only the last may have fewer rows. `reduce` turns a
    strip into one of the next level. Tiles are padded at the edges as by ``np.pad``. Tiles of the full level are
    yielded; those of each smaller level are appended to its list in `smaller`, which is complete after the last yield.
    """
    for level, strip in level_strips(strips, 1 + len(smaller), tile, reduce):
        tiles = map(encode, cut(strip, tile, fill))
        if level:
            smaller[level - 1].extend(tiles)
        else:
            yield from tiles


def level_strips(
    strips: Iterable[np.ndarray], levels: int, tile: int, reduce: Callable[[np.ndarray], np.ndarray] = halve
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the strips of a pyramid as (level, strip); a strip comes after the smaller levels' strips it completes."""
    waiting: list[list[np.ndarray]] = [[] for _ in range(levels)]

    def add(level: int, part: np.ndarray, is_last: bool) -> Iterator[tuple[int, np.ndarray]]:
        waiting[level].append(part)
        if is_last or sum(map(len, waiting[level])) == tile:
            strip = np.concatenate(waiting[level])
            waiting[level].clear()
            if level + 1 < levels:
                yield from add(level + 1, reduce(strip), is_last)
            if len(strip):
                yield level, strip

    before = None
    for strip in strips:
        if before is not None:
            yield from add(0, before, is_last=False)
        before = strip
    yield from add(0, before, is_last=True)


def cut(strip: np.ndarray, tile: int, fill: str = "constant") -> Iterator[np.ndarray]:
    """Yield a strip's tiles, (tile, tile, ...), from the left, padded at the edges."""
    height, width = strip.shape[:2]
    filled = np.pad(strip, ((0, tile - height), (0, -width % tile), *[(0, 0)] * (strip.ndim - 2)), mode=fill)
    for left in range(0, width, tile):
        yield np.ascontiguousarray(filled[:, left : left + tile])


def touched(window: Window, frame: Window, height: int, width: int) -> Window:
    """Return the pixels that a window of a frame touches in another grid, of `height` by `width` px for the frame.

    It is computed in whole numbers, as in `nearest`: a rounded fraction may lie a pixel outside.
    """
    top, left = window.top * height // frame.height, window.left * width // frame.width
    bottom, right = -(-window.bottom * height // frame.height), -(-window.right * width // frame.width)
    return Window(top, left, bottom - top, right - left)


def nearest(picture: np.ndarray, window: Window, frame: Window) -> np.ndarray:
    """Resample a window of a frame from a picture of the frame, (h, w, ...), by nearest pixels; edges are repeated."""
    rows = _under(window.top, window.height, frame.height, picture.shape[0])
    columns = _under(window.left, window.width, frame.width, picture.shape[1])
    return picture[np.ix_(rows, columns)]


def _under(start: int, length: int, side: int, other: int) -> np.ndarray:
    """Return the pixels of a grid of `other` px at the centres of pixels of an axis that has `side` px."""
    return np.clip((2 * np.arange(start, start + length) + 1) * other // (2 * side), 0, other - 1)
