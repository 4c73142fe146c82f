"""Pyramids of tiles, made strip by strip from the top, and pixels of one grid in another of the same field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np

from ..tiles import Window

Tile = TypeVar("Tile")


def halvings(side: int, tile: int) -> int:
    """Return how often a side is halved, rounded up, until a tile holds it: the levels of a pyramid below the first."""
    return ((side - 1) // tile).bit_length()


def halve(strip: np.ndarray) -> np.ndarray:
    """Take every second pixel of a strip: class indices cannot be averaged."""
    return strip[::2, ::2]


def average(strip: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of `factor` px of an RGB strip; what is left over at its edges has no part."""
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
    """Cut an image that comes in strips into the encoded tiles of a pyramid, row by row; a strip a level is in memory.

    Strips of (tile, W, ...) are full resolution from the top, of which only the last may have fewer rows; `reduce`
    makes a strip of the next level of one. Tiles are filled up at the edges as by ``np.pad``. Those of the full level
    are yielded, those of each smaller level added to its list in `smaller`: with the last that is yielded, all are.
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
    """Yield the level and the strip of each strip of a pyramid: what it adds to smaller levels comes before it."""
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
    """Yield a strip's tiles, (tile, tile, ...), from the left, filled up at the edges."""
    height, width = strip.shape[:2]
    filled = np.pad(strip, ((0, tile - height), (0, -width % tile), *[(0, 0)] * (strip.ndim - 2)), mode=fill)
    for left in range(0, width, tile):
        yield np.ascontiguousarray(filled[:, left : left + tile])


def touched(window: Window, frame: Window, height: int, width: int) -> Window:
    """Return the pixels that a window of a frame touches in another grid, of `height` by `width` px for the frame.

    In whole numbers, as in `nearest`: a rounded fraction may lie a pixel outside.
    """
    top, left = window.top * height // frame.height, window.left * width // frame.width
    bottom, right = -(-window.bottom * height // frame.height), -(-window.right * width // frame.width)
    return Window(top, left, bottom - top, right - left)


def nearest(picture: np.ndarray, window: Window, frame: Window) -> np.ndarray:
    """Show a window of a frame by the nearest pixels of a picture of it, (h, w, ...), whose edge goes on beyond it."""
    rows = _under(window.top, window.height, frame.height, picture.shape[0])
    columns = _under(window.left, window.width, frame.width, picture.shape[1])
    return picture[np.ix_(rows, columns)]


def _under(start: int, length: int, side: int, other: int) -> np.ndarray:
    """Return where the centres of pixels lie in a grid of `other` px, of an axis that has `side` px."""
    return np.clip((2 * np.arange(start, start + length) + 1) * other // (2 * side), 0, other - 1)
