"""The tiles and blocks of a slide, the job that its processes share, and the intermediate files of the job.

A missing or damaged file is an error where it is read; a resumed run makes it again. Absence never means "no tissue".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..adjust import BACKGROUND_REACH
from ..densecrf import CRF
from ..errors import InputError
from ..io.reading import open_regular
from ..labels import LabelSet, Stain
from ..tiles import TILE, Window

if TYPE_CHECKING:
    from .regions import SlideRegions

#: Share of a tile's side by which neighbouring tiles overlap (paper, section 4).
OVERLAP = 1 / 4


@dataclass(frozen=True)
class SlideGrid:
    """Tiles and blocks of a slide, both numbered in rows from the top left.

    Tiles cover the slide, and overlap (paper, section 4; docs/method.md, "Slides"). Blocks divide it evenly.
    """

    height: int  #: height of the slide, in px at the classifier's scale
    width: int
    tile: int = TILE  #: side of a tile, in px
    block: int = 768  #: longest side of a block, the part of a refined window that is kept, in px
    stride: int | None = None  #: distance between neighbouring tiles, in px; by default, they overlap by a quarter

    @property
    def step(self) -> int:
        """Distance between neighbouring tiles, in px."""
        return min(self.stride or self.tile - int(self.tile * OVERLAP), self.tile)

    @property
    def frame(self) -> Window:
        """The whole slide."""
        return Window(0, 0, self.height, self.width)

    @property
    def tiles(self) -> tuple[int, int]:
        """Number of rows and of columns of tiles."""
        return tuple(1 + -(-max(side - self.tile, 0) // self.step) for side in (self.height, self.width))

    @property
    def blocks(self) -> tuple[int, int]:
        """Number of rows and of columns of blocks."""
        return tuple(math.ceil(side / self.block) for side in (self.height, self.width))

    @property
    def _block_sides(self) -> tuple[int, int]:
        return tuple(-(-side // count) for side, count in zip((self.height, self.width), self.blocks, strict=True))

    def tile_window(self, number: int) -> Window:
        """Return the window of a tile; at the slide's edge, parts of it may lie outside."""
        row, column = divmod(number, self.tiles[1])
        return Window(row * self.step, column * self.step, self.tile, self.tile)

    def block_window(self, number: int) -> Window:
        """Return the window of a block, inside the slide."""
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


@dataclass(frozen=True)
class SlideJob:
    """The work on a slide, for the processes that share it: tiles, method, scale and folder."""

    grid: SlideGrid
    tissue: np.ndarray  #: numbers of the tiles with tissue, int; only these are classified
    batch_size: int  #: tiles classified together; always the same ones, as the last bits of scores may depend on it
    label_sets: tuple[LabelSet, ...]
    crfs: Mapping[str, CRF]  #: by label set name
    scale: float  #: the classifier's scale, in microns per pixel
    thresholds: np.ndarray  #: (K,): lowest score at which each class is present
    folder: Path  #: folder of the intermediate files
    maps: str = "adjusted"  #: maps to average where tiles overlap: "adjusted", as in the paper, or "gradcam"
    glass: float = 255.0  #: brightness from which on bare glass is painted white; see `tissue.paint_blank`
    stain: Stain | None = None  #: stain colours to which tiles are normalised before they are classified
    stain_statistics: np.ndarray | None = None  #: (2, 3), from the slide's tissue; see `classify.stain_statistics`

    @cached_property
    def order(self) -> np.ndarray:
        """The numbers in `tissue`, in the order in which the blocks, one after another, need them."""
        blocks = filter(self.has_tissue, range(math.prod(self.grid.blocks)))
        needed = chain.from_iterable(self.grid.tiles_of(self.with_halo(block)) for block in blocks)
        return np.array([tile for tile in dict.fromkeys(needed) if self._tissue_tiles[tile]], int)

    @cached_property
    def _position_of(self) -> np.ndarray:
        positions = np.full(math.prod(self.grid.tiles), -1)
        positions[self.order] = np.arange(len(self.order))
        return positions

    @property
    def batches(self) -> int:
        """Number of batches."""
        return math.ceil(len(self.tissue) / self.batch_size)

    def batch(self, number: int) -> np.ndarray:
        """Return the numbers of the tiles in a batch."""
        return self.order[number * self.batch_size :][: self.batch_size]

    def batch_file(self, number: int) -> Path:
        """Return the path of a batch's scores and coarse CAMs."""
        return self.folder / "tiles" / f"{number:06d}.npz"

    def block_file(self, number: int, label_set: LabelSet) -> Path:
        """Return the path of a block's label map."""
        return self.folder / "labels" / label_set.name / f"{number:06d}.png"

    @property
    def blank_file(self) -> Path:
        """Path of `TissueMap.blank`; the file exists only if parts of the slide are painted white."""
        return self.folder / "blank.png"

    def is_classified(self, number: int) -> bool:
        """Tell whether a batch's file exists and can be read; a damaged file is removed, so that it is made again."""
        return _is_whole(self.batch_file(number), read_batch)

    def is_refined(self, number: int) -> bool:
        """Tell whether all label maps of a block exist and can be read; a damaged one is removed, to be made again."""
        return all(_is_whole(self.block_file(number, label_set), read_block) for label_set in self.label_sets)

    def has_tissue(self, number: int) -> bool:
        """Tell whether a block touches tiles with tissue; if not, it needs no refinement and has no file."""
        return bool(self._tiles_in(self.grid.block_window(number)))

    def covered(self, number: int) -> Window:
        """Return the smallest window that holds the classified parts of a block; the block must have tissue."""
        block = self.grid.block_window(number)
        first, *others = (tile.overlap(block) for tile in self._tiles_in(block))
        return first.around(others)

    def with_halo(self, number: int) -> Window:
        """Return the window to refine: the classified part of a block, with a halo as wide as the CRF sees."""
        reach = max(crf.reach for crf in self.crfs.values())
        reach += BACKGROUND_REACH if self.maps == "gradcam" else 0
        return self.covered(number).grown(reach).overlap(self.grid.frame)

    def _tiles_in(self, window: Window) -> list[Window]:
        return [self.grid.tile_window(tile) for tile in self.grid.tiles_of(window) if self._tissue_tiles[tile]]

    @cached_property
    def _tissue_tiles(self) -> np.ndarray:
        return np.isin(np.arange(math.prod(self.grid.tiles)), self.tissue)

    def positions(self, window: Window) -> np.ndarray:
        """Return the positions in `order` of the tiles with tissue that a window touches."""
        positions = self._position_of[list(self.grid.tiles_of(window))]
        return positions[positions >= 0]


# --- Intermediate files -----------------------------------------------------------------------------------------------


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a batch's scores (T, K), the outputs (N,) that have coarse CAMs, and the coarse CAMs (T, N, h, w)."""
    with open_regular(path) as file, np.load(file) as content:
        return content["scores"], content["outputs"], content["cams"]


def read_block(path: Path) -> np.ndarray:
    """Return the label map of a block, uint8."""
    with open_regular(path) as file, Image.open(file, formats=["PNG"]) as picture:
        return np.array(picture)


def _is_whole(path: Path, read: Callable[[Path], Any]) -> bool:
    try:
        read(path)
    except FileNotFoundError:
        return False
    except Exception:  # readers raise many kinds of errors for damaged files
        path.unlink(missing_ok=True)
        return False
    return True


def no_tissue(label_set: LabelSet) -> int:
    """Return the label of bare glass, which is not classified: background, or else the number of classes."""
    return label_set.codes.index(label_set.background) if label_set.background else len(label_set)


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of a slide, uint8 class indices, which are read window by window; bare glass is `no_tissue`."""

    readers: Mapping[str, Callable[[Window], np.ndarray]]  #: by label set name
    mpp: float  #: scale of the maps, in microns per pixel
    tiles: int  #: number of tiles that were classified
    regions: SlideRegions | None = None  #: regions that limit the maps


def label_reader(job: SlideJob, label_set: LabelSet) -> Callable[[Window], np.ndarray]:
    """Return a reader of the slide's label map; it raises InputError if a block of the map is missing or damaged."""

    @lru_cache(maxsize=job.grid.blocks[1] + 1)  # several rows of windows touch a row of blocks
    def block_labels(number: int) -> np.ndarray | None:
        if not job.has_tissue(number):
            return None
        path = job.block_file(number, label_set)
        try:
            return read_block(path)
        except Exception as error:
            raise InputError(f"{path}: missing or damaged ({error}); run the same command again to make it") from error

    def read(window: Window) -> np.ndarray:
        labels = np.full((window.height, window.width), no_tissue(label_set), np.uint8)
        for number in job.grid.blocks_of(window):
            part, block = block_labels(number), job.grid.block_window(number)
            shared = block.overlap(window)
            if part is not None:
                labels[shared.within(window)] = part[shared.within(block)]
        return labels

    return read
