"""Geometry of a slide at the classifier's scale: overlapping tiles to classify, and windows to refine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..tiles import TILE, Window

#: By which neighbouring tiles overlap (paper, section 4).
OVERLAP = 1 / 4


@dataclass(frozen=True)
class SlideGrid:
    """Tiles and blocks of a slide, both numbered in rows from the top left.

    Tiles overlap by a quarter (paper, section 4; docs/method.md, "Slides") and cover it; blocks divide it evenly.
    """

    height: int  #: of the slide, in px at the classifier's scale
    width: int
    tile: int = TILE  #: side of a tile, in px
    block: int = 768  #: longest side of a block, the part of a window that is kept, in px
    stride: int | None = None  #: distance of neighbouring tiles, in px; if left out, they overlap by a quarter

    @property
    def step(self) -> int:
        """Distance of neighbouring tiles, in px."""
        return min(self.stride or self.tile - int(self.tile * OVERLAP), self.tile)

    @property
    def frame(self) -> Window:
        """The whole slide."""
        return Window(0, 0, self.height, self.width)

    @property
    def tiles(self) -> tuple[int, int]:
        """Numbers of rows and columns of tiles."""
        return tuple(1 + -(-max(side - self.tile, 0) // self.step) for side in (self.height, self.width))

    @property
    def blocks(self) -> tuple[int, int]:
        """Numbers of rows and columns of blocks."""
        return tuple(math.ceil(side / self.block) for side in (self.height, self.width))

    @property
    def _block_sides(self) -> tuple[int, int]:
        return tuple(-(-side // count) for side, count in zip((self.height, self.width), self.blocks, strict=True))

    def tile_window(self, number: int) -> Window:
        """Return where a tile lies; at the slide's edge, parts of it may lie outside."""
        row, column = divmod(number, self.tiles[1])
        return Window(row * self.step, column * self.step, self.tile, self.tile)

    def block_window(self, number: int) -> Window:
        """Return where a block lies, inside the slide."""
        row, column = divmod(number, self.blocks[1])
        height, width = self._block_sides
        return Window(row * height, column * width, height, width).overlap(self.frame)

    def tiles_of(self, window: Window) -> Iterator[int]:
        """Yield the numbers of the tiles that a window touches."""
        rows, columns = self.tiles
        for row in self._touched(window.top, window.bottom, rows):
            for column in self._touched(window.left, window.right, columns):
                yield row * columns + column

    def blocks_of(self, window: Window) -> Iterator[int]:
        """Yield the numbers of the blocks that a window inside the slide touches."""
        height, width = self._block_sides
        for row in range(window.top // height, -(-window.bottom // height)):
            for column in range(window.left // width, -(-window.right // width)):
                yield row * self.blocks[1] + column

    def _touched(self, begin: int, end: int, count: int) -> range:
        first = (begin - self.tile) // self.step + 1
        stop = -(-end // self.step)
        return range(max(first, 0), min(stop, count))
