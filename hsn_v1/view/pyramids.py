"""Pyramids of label maps: compressed tiles of class indices, in a label map's file or in memory.

A tile is sent as the zlib stream of its class indices, HTTP's "deflate"; the browser inflates and colours it. Tiles of
a label map's file are sent as they are stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.reading import line_of, opened
from ..slide_io.tiling import halvings, pyramid_tiles

TILE = 512  #: side of a tile, in px

DEFLATE = 8, 32946  #: TIFF's codes for zlib compression

MOST_TILES = 1 << 21  #: most tiles of a level: 700,000 px square
MOST_BYTES = TILE * TILE + (1 << 12)  #: most bytes of a tile's stream, which is longer than its content for noise


@dataclass(frozen=True)
class LabelLevel:
    """A level of a label map: zlib streams of TILE by TILE class indices, row by row."""

    height: int  #: in px
    width: int
    tiles: Sequence[bytes] | Sequence[tuple[int, int]]  #: the streams, or their offsets in the file and lengths


@dataclass(frozen=True)
class Pyramid:
    """A label map in several resolutions."""

    levels: tuple[LabelLevel, ...]  #: full resolution first, each half of the one before
    path: Path | None = None  #: file of the tiles; None if they are in memory

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at full resolution, in px."""
        return self.levels[0].height, self.levels[0].width

    @property
    def nbytes(self) -> int:
        """Approximate memory use, in bytes."""
        return sum(150 + len(tile) for level in self.levels for tile in level.tiles)

    def tile(self, number: int, row: int, column: int) -> bytes:
        """Return a tile's zlib stream by its level, row and column.

        Raises LookupError if there is no such tile, InputError if the file is unreadable or ends before the tile does.
        """
        if not 0 <= number < len(self.levels):
            raise LookupError
        level = self.levels[number]
        across = -(-level.width // TILE)
        if not (0 <= row < -(-level.height // TILE) and 0 <= column < across):
            raise LookupError
        stored = level.tiles[row * across + column]
        if self.path is None:
            return stored
        offset, length = stored
        with opened(self.path) as file:
            file.seek(offset)
            content = file.read(min(length, MOST_BYTES))
        if len(content) != length or not content:
            raise InputError(f"{self.path}: the file ends within a tile, or is damaged; segment the slide again")
        return content


def read_pyramid(path: Path) -> Pyramid:
    """Read the tiles' offsets in a file of `label_maps.write_label_map`; raise InputError for any other file."""
    import tifffile

    tifffile.logger().disabled = True
    try:
        with opened(path) as content, tifffile.TiffFile(content) as file:
            levels = []
            for page in (level.pages[0].aspage() for level in file.series[0].levels):
                stored = page.dtype, page.tile, page.samplesperpixel, int(page.predictor)
                rows, columns = (-(-side // TILE) for side in page.shape)
                if stored != (np.uint8, (TILE, TILE), 1, 1) or int(page.compression) not in DEFLATE:
                    raise InputError(f"{path}: not a label map as hsn_v1 writes it")
                if not rows * columns == page.tags["TileOffsets"].count <= MOST_TILES:
                    raise InputError(f"{path}: damaged; segment the slide again")
                levels.append(LabelLevel(*page.shape, [*zip(page.dataoffsets, page.databytecounts, strict=True)]))
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:  # tifffile raises many types for a damaged TIFF
        raise InputError(f"{path}: not a label map, or damaged ({line_of(error)}); segment the slide again") from error
    if [(level.height, level.width) for level in levels] != _sizes(levels[0].height, levels[0].width):
        raise InputError(f"{path}: not a label map as hsn_v1 writes it, or damaged; segment the slide again")
    return Pyramid(tuple(levels), path)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of each level, in px."""
    return [(-(-height // 2**n), -(-width // 2**n)) for n in range(1 + halvings(max(height, width), TILE))]


def build_pyramid(strips: Iterable[np.ndarray], height: int, width: int) -> Pyramid:
    """Compress a label map of (height, width) uint8; levels are halved by striding, as in label map files.

    `strips` are its rows from the top, TILE at a time; only the last strip may have fewer.
    """
    sizes = _sizes(height, width)
    smaller: list[list[bytes]] = [[] for _ in sizes[1:]]
    full = [*pyramid_tiles(strips, smaller, TILE, zlib.compress)]
    return Pyramid(tuple(LabelLevel(*size, tiles) for size, tiles in zip(sizes, (full, *smaller), strict=True)))


def decode(tile: bytes) -> np.ndarray:
    """Return a tile's class indices, (TILE, TILE) uint8; raise InputError if its stream is damaged."""
    try:
        content = zlib.decompressobj().decompress(tile, TILE * TILE + 1)
        return np.frombuffer(content, np.uint8).reshape(TILE, TILE)
    except (zlib.error, ValueError) as error:
        raise InputError(f"a label map's tile is damaged ({error}); segment the slide again") from error


def read_small(pyramid: Pyramid, side: int) -> np.ndarray:
    """Return the smallest level whose longer side has at least `side` px, else the largest level, as (H, W) uint8."""
    number = max((n for n, at in enumerate(pyramid.levels) if max(at.height, at.width) >= side), default=0)
    level = pyramid.levels[number]
    rows, columns = -(-level.height // TILE), -(-level.width // TILE)
    tiles = [[decode(pyramid.tile(number, row, column)) for column in range(columns)] for row in range(rows)]
    return np.block(tiles)[: level.height, : level.width]
