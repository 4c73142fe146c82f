"""Tile geometry: the places of the classifier's tiles in an image, and the stitching of their maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np

TILE = 224  #: side of the published classifier's tiles, in px


def resize(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize maps (C, h, w) float32 bilinearly, without antialiasing; maps of that size are returned uncopied."""
    if maps.shape[1:] == (height, width):
        return maps
    resized = np.empty((len(maps), height, width), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


@dataclass(frozen=True)
class Window:
    """A rectangle of an image or slide; parts of it may lie outside.

    Attributes
    ----------
    top, left, height, width : int
        In px; of a slide, at the classifier's scale.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """Row after the last one."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """Column after the last one."""
        return self.left + self.width

    def grown(self, margin: int) -> Window:
        """Return the window with a margin on all sides."""
        return Window(self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin)

    def around(self, others: Iterable[Window]) -> Window:
        """Return the smallest window that contains this one and others."""
        windows = (self, *others)
        top, left = min(window.top for window in windows), min(window.left for window in windows)
        bottom, right = max(window.bottom for window in windows), max(window.right for window in windows)
        return Window(top, left, bottom - top, right - left)

    def overlap(self, other: Window) -> Window:
        """Return the intersection of two windows; it has no rows or no columns if it is empty."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height, width = min(self.bottom, other.bottom) - top, min(self.right, other.right) - left
        return Window(top, left, max(height, 0), max(width, 0))

    def relative_to(self, frame: Window) -> Window:
        """Return the window in coordinates of a frame, counted from its top left corner."""
        return replace(self, top=self.top - frame.top, left=self.left - frame.left)

    def halves(self) -> tuple[Window, Window]:
        """Return the window's upper and lower half, or the left and right one if it is wider than high."""
        if self.width > self.height:
            first = self.width // 2
            return replace(self, width=first), replace(self, left=self.left + first, width=self.width - first)
        first = self.height // 2
        return replace(self, height=first), replace(self, top=self.top + first, height=self.height - first)

    def within(self, frame: Window) -> tuple[slice, slice]:
        """Return the window's rows and columns in an array of a frame around it."""
        return (
            slice(self.top - frame.top, self.bottom - frame.top),
            slice(self.left - frame.left, self.right - frame.left),
        )


def overlap_ramp(length: int, overlap: float) -> np.ndarray:
    """Return the weights of a tile's pixels along an axis, (length,) float32, above 0 and at most 1.

    If neighbours overlap, weights fall towards the ends, which lack context; else all are 1. `overlap` is in px.
    """
    ramp = np.minimum(1, (np.arange(length) + 0.5) / max(overlap, 0.5))
    return np.minimum(ramp, ramp[::-1]).astype(np.float32)


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of an image (docs/method.md, "Input" and stage 2)."""

    side: int  #: length of the image, in its own px
    downsample: float  #: factor d between the image's scale and the classifier's
    tile: int  #: length of a tile, in px at the classifier's scale
    pad_to_crop: bool  #: whether the image is padded before it is downsampled
    stride: int  #: greatest distance of neighbouring tiles, in px at the classifier's scale
    margin: int = 0  #: least number of mirrored px on either side, at the classifier's scale

    @property
    def pad(self) -> int:
        """Mirrored px on either side: the margin, or enough to make the image as long as a tile."""
        lacking = max(self.tile * self.downsample - self.side, 0) / 2
        return math.ceil(max(lacking, self.margin * self.downsample))

    @property
    def reduced(self) -> int:
        """Length at the classifier's scale."""
        return round((self.side + 2 * self.pad * self.pad_to_crop) / self.downsample)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return math.ceil((self.reduced - self.tile) / self.stride) + 1

    @property
    def footprint(self) -> int:
        """Length of a tile in the image's own px; enough for `count` tiles to reach the image's end."""
        end = self.side + self.pad * min(self.count, 2)  # a single tile need not cover all mirrored px
        return max(round(self.tile * self.downsample), math.ceil(end / self.count))

    @property
    def weights(self) -> np.ndarray:
        """Weights of a tile's pixels where tiles overlap, in the image's own px."""
        return overlap_ramp(self.footprint, self.footprint * (1 - self.stride / self.tile))

    @property
    def crop_starts(self) -> list[int]:
        """Starts of the tiles at the classifier's scale."""
        return _starts(self.reduced, self.tile, self.count)

    @property
    def stitch_starts(self) -> list[int]:
        """Starts of the tiles at the image's own scale, padding included."""
        return _starts(self.side + 2 * self.pad, self.footprint, self.count)


def _starts(length: int, tile: int, count: int) -> list[int]:
    if count == 1:
        return [0]
    overlap = (count * tile - length) // (count - 1)
    return [min(i * (tile - overlap), length - tile) for i in range(count)]


@dataclass(frozen=True)
class TileGrid:
    """Tiles of an image, in rows from the top left.

    Attributes
    ----------
    height, width : int
        Size of the image, in its own px.
    downsample : float
        Factor d between the image's scale and the classifier's.
    tile : int
        Side of a tile, in px at the classifier's scale.
    stride : int, optional
        Greatest distance of neighbouring tiles, in px at the classifier's scale; the tile's side, if left out.
    margin : int
        Mirrored px around the image, at the classifier's scale, so that no tissue is at the edge of a tile only.

    Examples
    --------
    >>> grid, image = TileGrid(8, 12, tile=8), np.zeros((8, 12, 3), np.uint8)
    >>> tiles = grid.crop(image)
    >>> tiles.shape, grid.stitch(lambda tile: tiles[tile].transpose(2, 0, 1)).shape
    ((2, 8, 8, 3), (3, 8, 12))
    """

    height: int
    width: int
    downsample: float = 1.0
    tile: int = TILE
    stride: int | None = None
    margin: int = 0

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The grid along the rows and along the columns."""
        too_small = min(round(side / self.downsample) for side in (self.height, self.width)) < self.tile
        how = self.downsample, self.tile, too_small or self.margin > 0, min(self.stride or self.tile, self.tile)
        return tuple(Axis(side, *how, self.margin) for side in (self.height, self.width))

    def __len__(self) -> int:
        """Return the number of tiles."""
        rows, columns = self.axes
        return rows.count * columns.count

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Cut an image into the classifier's tiles.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8

        Returns
        -------
        ndarray of shape (T, tile, tile, 3), float32, in 0..255
            Not rounded.
        """
        rows, columns = self.axes
        if rows.pad_to_crop:
            image = cv2.copyMakeBorder(image, rows.pad, rows.pad, columns.pad, columns.pad, cv2.BORDER_REFLECT)
        reduced = cv2.resize(image.astype(np.float32), (columns.reduced, rows.reduced), interpolation=cv2.INTER_LINEAR)
        return np.stack(
            [reduced[y : y + self.tile, x : x + self.tile] for y in rows.crop_starts for x in columns.crop_starts]
        )

    def stitch(self, maps_of: Callable[[int], np.ndarray], window: Window | None = None) -> np.ndarray:
        """Stitch the tiles' maps at the image's own scale, averaging where tiles overlap.

        All pixels of a tile have equal weight, unless tiles overlap by a stride: then less towards its borders.

        Parameters
        ----------
        maps_of : callable
            Returns the maps of a tile, (C, tile, tile) float32, by its number. It is called once for each tile needed,
            so that a large image's tiles need not be in memory together.
        window : Window, optional
            Part of the image to stitch, in its own px; the whole image, if left out.

        Returns
        -------
        ndarray of shape (C, height, width), float32
            Size of the window, or of the whole image.
        """
        rows, columns = self.axes
        window = window or Window(0, 0, self.height, self.width)
        frame = Window(window.top + rows.pad, window.left + columns.pad, window.height, window.width)
        total, times = None, np.zeros((frame.height, frame.width), np.float32)
        weights = np.outer(rows.weights, columns.weights)
        for number, (y, x) in enumerate(product(rows.stitch_starts, columns.stitch_starts)):
            tile = Window(y, x, rows.footprint, columns.footprint)
            shared = tile.overlap(frame)
            if shared.height and shared.width:
                maps = resize(maps_of(number), rows.footprint, columns.footprint)
                if total is None:
                    total = np.zeros((len(maps), *times.shape), np.float32)
                weight = weights[shared.within(tile)]
                total[(..., *shared.within(frame))] += maps[(..., *shared.within(tile))] * weight
                times[shared.within(frame)] += weight
        total /= times
        return total
