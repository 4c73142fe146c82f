"""Write and read label maps of slides, strip by strip, as files for slide viewers, and tables of their areas."""

from __future__ import annotations

import contextlib
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..evaluate import tissue_shares
from ..io.reading import line_of, opened, read_table
from ..io.writing import replacing, write_table
from ..labels import LabelSet
from ..tiles import Window
from .base import decoding
from .scale import density_tags
from .tifffile_backend import tiled_region
from .tiling import halvings, nearest, pyramid_tiles

if TYPE_CHECKING:
    from tifffile import TiffFile

FILE_TILE = 512  #: side of a tile in the file, in px
STRIP = 128  #: height of the strips in which a file is read, in px

#: Columns of the table of areas.
AREA_COLUMNS = ("class", "name", "pixels", "mm2", "share_of_tissue", "caveat")


@dataclass(frozen=True)
class LabelMapInfo:
    """A label map's metadata."""

    height: int  #: of the map, in px
    width: int
    mpp: float  #: its scale, in microns per pixel
    label_set: LabelSet
    title: str = "label map"  #: name of the image in viewers
    caveat: str = ""  #: warning to everyone who sees the map


def write_label_map(
    path: Path,
    read: Callable[[Window], np.ndarray],
    info: LabelMapInfo,
    *,
    tile: int = FILE_TILE,
    progress: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """Write a label map as a pyramidal OME-TIFF: class indices, with their names and the scale in its metadata.

    Levels are halved by striding, as class indices cannot be averaged, until one tile holds them. Memory holds a strip
    of the map and the compressed tiles of the smaller levels, never the map. Pixels are plain grey values, as readers
    would turn a palette into colours. The same labels give the same bytes, whichever codecs are installed.

    `path` ends in ``.ome.tif``, by which viewers know the format. `read` returns the class indices of a window inside
    the map, uint8; the number of classes means no tissue. It is called once for each tile of the file, in rows from the
    top left. `tile`, the side of a tile, is a multiple of 16 px. `progress` gets the number of rows written. Returns
    the number of pixels of each of the C classes, and of no tissue, (C + 1,) int64. Raises ValueError for a higher
    index. No file is left after this error, or after one of `read` or of the disk.
    """
    import tifffile

    height, width, classes = info.height, info.width, len(info.label_set)
    counts = np.zeros(classes + 1, np.int64)
    smaller: list[list[bytes]] = [[] for _ in range(halvings(max(height, width), tile))]

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, height, tile):
            rows = min(tile, height - top)
            strip = np.hstack([read(Window(top, x, rows, min(tile, width - x))) for x in range(0, width, tile)])
            pixels = np.bincount(strip.ravel(), minlength=len(counts))
            if len(pixels) > len(counts):
                raise ValueError(f"class index {len(pixels) - 1} in a label map of {classes} classes")
            np.add(counts, pixels, out=counts)
            progress(top + rows)
            yield strip

    common = {"dtype": np.uint8, "tile": (tile, tile), "compression": "zlib", "photometric": "minisblack"}
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=height * width > 3e9, ome=True) as writer:
        for level, tiles in enumerate((pyramid_tiles(strips(), smaller, tile, zlib.compress), *smaller)):
            writer.write(
                iter(tiles),
                shape=(-(-height // 2**level), -(-width // 2**level)),
                software="hsn_v1",
                subifds=None if level else len(smaller),
                subfiletype=int(level > 0),
                metadata=None if level else _ome(info),
                **density_tags(info.mpp * 2**level),
                **common,
            )
    return counts


def _ome(info: LabelMapInfo) -> dict:
    names = map(info.label_set.describe, info.label_set.codes)
    metadata = {
        "Creator": "hsn_v1",
        "Name": "".join(letter if letter.isprintable() else "?" for letter in info.title),  # XML lacks some
        **({"Description": info.caveat} if info.caveat else {}),
        **{"PhysicalSizeX": info.mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": info.mpp, "PhysicalSizeYUnit": "µm"},
        "Plane": {"PositionX": 0.0, "PositionXUnit": "µm", "PositionY": 0.0, "PositionYUnit": "µm"},
        "Channel": {"Name": "class index"},
        "MapAnnotation": {str(index): name for index, name in enumerate([*names, "no tissue"])},
    }
    # Derived from the metadata, as a random one would differ each time.
    return {**metadata, "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, repr((info.height, info.width, metadata))))}


@contextlib.contextmanager
def _opened_map(path: Path) -> Iterator[TiffFile]:
    """Open a label map's file; raise InputError if it is missing or damaged."""
    import tifffile

    tifffile.logger().disabled = True  # faults that matter become InputError
    with opened(path) as content, decoding(path), tifffile.TiffFile(content) as file:
        yield file


def read_strips(path: Path, rows: int = STRIP) -> Iterator[tuple[int, np.ndarray]]:
    """Read a label map's file from its top: yield the number of each strip's first row, and the strip (uint8)."""
    with _opened_map(path) as file:
        page = file.pages.first
        for top in range(0, page.imagelength, page.tilelength):
            height = min(page.tilelength, page.imagelength - top)
            tiles = tiled_region(page, Window(top, 0, height, page.imagewidth))[..., 0]
            for start in range(0, height, rows):
                yield top + start, tiles[start : start + rows]


def label_map_size(path: Path) -> tuple[int, int]:
    """Return height and width of a label map's file, in px."""
    with _opened_map(path) as file:
        return file.pages.first.shape[:2]


def read_thumbnail(path: Path, height: int, width: int) -> np.ndarray:
    """Read a label map's file in another size, uint8: the nearest pixels of the smallest level that is large enough."""
    with _opened_map(path) as file:
        levels = file.series[0].levels
        large = [level for level in levels if level.shape[0] >= height and level.shape[1] >= width]
        pixels = (large or levels)[-1 if large else 0].asarray()
    return nearest(pixels, frame := Window(0, 0, height, width), frame)


@dataclass(frozen=True)
class Area:
    """A row of the table of areas: a class, or no tissue."""

    code: str  #: code of the class; "" for no tissue
    name: str
    pixels: int  #: number of px of the label map
    mm2: float
    share: float | None  #: share of the tissue, in 0..1; None for background and no tissue
    caveat: str = ""  #: warning to everyone who sees the areas

    def cells(self) -> tuple:
        """Return the row's cells, in the order of `AREA_COLUMNS`."""
        share = "" if self.share is None else f"{self.share:.6f}"
        return self.code, self.name, self.pixels, f"{self.mm2:.6f}", share, self.caveat


def areas_of(counts: np.ndarray, info: LabelMapInfo) -> list[Area]:
    """Return the area of each class in pixels and mm2, and its share of the tissue.

    `counts` are the pixels of each class, and of no tissue, as `write_label_map` returns them. The background class and
    no tissue have a row, but no share. The caveat is in each row.
    """
    label_set, shares = info.label_set, tissue_shares(counts, info.label_set)
    names = [*((code, label_set.name_of(code)) for code in label_set.codes), ("", "no tissue")]
    return [
        Area(*name, pixels, pixels * info.mpp**2 / 1e6, shares.get(index), info.caveat)
        for index, (name, pixels) in enumerate(zip(names, counts.tolist(), strict=False))
    ]


def write_areas(path: Path, counts: np.ndarray, info: LabelMapInfo) -> None:
    """Write the table of `areas_of`."""
    write_table(path, [AREA_COLUMNS, *(area.cells() for area in areas_of(counts, info))])


def read_areas(path: Path) -> list[Area]:
    """Read the rows of a table that `write_areas` wrote; raise InputError for any other table."""
    try:
        rows = [[row[column] for column in AREA_COLUMNS] for row in read_table(path)]
        return [
            Area(code, name, int(pixels), float(mm2), float(share) if share else None, caveat)
            for code, name, pixels, mm2, share, caveat in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no table of areas ({line_of(error)}); segment the input again") from error
