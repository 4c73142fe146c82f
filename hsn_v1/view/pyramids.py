"""Label maps as pyramids of compressed tiles, which the browser colours: from a file as it is stored, or in memory.

A tile goes to the browser as the zlib stream of its class indices, which HTTP calls "deflate": a tile of a label map's
file is neither copied nor coloured here.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError

TILE = 512  #: side of a tile, in px
HALF = TILE // 2

DEFLATE = 8, 32946  #: what TIFF calls zlib


@dataclass(frozen=True)
class Level:
    """A resolution of a stored label map: its size in px, and where each tile lies in the file, in rows."""

    height: int
    width: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class StoredPyramid:
    """A label map's file, as `label_maps.write_label_map` writes it.

    Attributes
    ----------
    path : Path
    levels : tuple of Level
        Full resolution first.
    """

    path: Path
    levels: tuple[Level, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of full resolution, in px."""
        return self.levels[0].height, self.levels[0].width

    @property
    def nbytes(self) -> int:
        """Memory that this takes, in bytes, about."""
        return 100 * sum(len(level.offsets) for level in self.levels)

    def tile(self, number: int, row: int, column: int) -> bytes:
        """Return a tile's zlib stream, TILE by TILE class indices, by its level, row and column.

        Raises
        ------
        LookupError
            If there is no such tile.
        InputError
            If the file ends before it.
        """
        level = self.levels[_within(number, self.levels)]
        across = -(-level.width // TILE)
        if not (0 <= row < -(-level.height // TILE) and 0 <= column < across):
            raise LookupError
        index = row * across + column
        with self.path.open("rb") as file:
            file.seek(level.offsets[index])
            content = file.read(level.lengths[index])
        if len(content) < level.lengths[index] or not content:
            raise InputError(f"{self.path}: the file ends within a tile; segment the slide again")
        return content


def read_pyramid(path: Path) -> StoredPyramid:
    """Read where a label map's tiles lie in its file.

    Raises
    ------
    InputError
        If it is no file of `label_maps.write_label_map`, or damaged.
    """
    import tifffile

    tifffile.logger().disabled = True
    try:
        with tifffile.TiffFile(path) as file:
            levels = []
            for page in (level.pages[0].aspage() for level in file.series[0].levels):
                stored = page.dtype, page.tile, int(page.compression), page.samplesperpixel, int(page.predictor)
                if stored != (np.uint8, (TILE, TILE), stored[2], 1, 1) or stored[2] not in DEFLATE:
                    raise InputError(f"{path}: not a label map as hsn_v1 writes it")
                levels.append(Level(*page.shape, tuple(page.dataoffsets), tuple(page.databytecounts)))
            return StoredPyramid(path, tuple(levels))
    except (InputError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a damaged TIFF makes tifffile raise all sorts
        raise InputError(f"{path}: not a label map, or damaged ({error}); segment the slide again") from error


@dataclass(frozen=True)
class MemoryPyramid:
    """A label map in memory, compressed.

    Attributes
    ----------
    sizes : tuple of (int, int)
        Height and width of each level, in px, full resolution first.
    tiles : tuple of dict of (int, int) to bytes
        Of each level, by row and column: zlib streams of TILE by TILE class indices.
    """

    sizes: tuple[tuple[int, int], ...]
    tiles: tuple[dict[tuple[int, int], bytes], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of full resolution, in px."""
        return self.sizes[0]

    @property
    def nbytes(self) -> int:
        """Memory that this takes, in bytes, about."""
        return sum(150 + len(tile) for level in self.tiles for tile in level.values())

    def tile(self, number: int, row: int, column: int) -> bytes:
        """Return a tile's zlib stream by its level, row and column; LookupError if there is none."""
        return self.tiles[_within(number, self.tiles)][row, column]


def _within(number: int, levels: tuple) -> int:
    if not 0 <= number < len(levels):
        raise LookupError
    return number


Pyramid = StoredPyramid | MemoryPyramid


def decode(tile: bytes) -> np.ndarray:
    """Return a tile's class indices, (TILE, TILE) uint8; InputError if its stream is damaged."""
    with _no_zlib_error():
        return np.frombuffer(zlib.decompress(tile), np.uint8).reshape(TILE, TILE)


@contextlib.contextmanager
def _no_zlib_error() -> Iterator[None]:
    try:
        yield
    except (zlib.error, ValueError) as error:
        raise InputError(f"a label map's tile is damaged ({error}); segment the slide again") from error


def build_pyramid(strips: Iterable[np.ndarray], height: int, width: int) -> MemoryPyramid:
    """Compress a label map that comes in strips; levels are halved by striding, as those of stored label maps.

    Parameters
    ----------
    strips : iterable of ndarray of shape (up to TILE, width), uint8
        From the top; only the last may have fewer than TILE rows.
    height, width : int
        Size of the map, in px.
    """
    level = {}
    for row, strip in enumerate(strips):
        padded = np.pad(strip, ((0, TILE - len(strip)), (0, -width % TILE)))
        for column in range(padded.shape[1] // TILE):
            level[row, column] = _encode(padded[:, column * TILE : (column + 1) * TILE])
    sizes, levels = [(height, width)], [level]
    for number in range(math.ceil(math.log2(max(height, width, TILE) / TILE))):
        sizes.append((-(-height // 2 ** (number + 1)), -(-width // 2 ** (number + 1))))
        levels.append(_halved(levels[-1]))
    return MemoryPyramid(tuple(sizes), tuple(levels))


def _halved(level: dict[tuple[int, int], bytes]) -> dict[tuple[int, int], bytes]:
    smaller = {}
    for row, column in {(row // 2, column // 2) for row, column in level}:
        tile = np.zeros((TILE, TILE), np.uint8)
        for down in (0, 1):
            for across in (0, 1):
                if part := level.get((2 * row + down, 2 * column + across)):
                    top, left = down * HALF, across * HALF
                    tile[top : top + HALF, left : left + HALF] = decode(part)[::2, ::2]
        smaller[row, column] = _encode(tile)
    return smaller


def _encode(tile: np.ndarray) -> bytes:
    return zlib.compress(np.ascontiguousarray(tile), 1)


def read_small(pyramid: Pyramid, side: int) -> np.ndarray:
    """Return the smallest level of at least `side` px along its longer side, or else the largest, as (H, W) uint8."""
    height, width = pyramid.size
    count = len(pyramid.levels if isinstance(pyramid, StoredPyramid) else pyramid.sizes)
    number = max((n for n in range(count) if max(height, width) / 2**n >= side), default=0)
    rows, columns = -(-height // 2**number), -(-width // 2**number)
    picture = np.empty((-(-rows // TILE) * TILE, -(-columns // TILE) * TILE), np.uint8)
    for top in range(0, rows, TILE):
        for left in range(0, columns, TILE):
            picture[top : top + TILE, left : left + TILE] = decode(pyramid.tile(number, top // TILE, left // TILE))
    return picture[:rows, :columns]
