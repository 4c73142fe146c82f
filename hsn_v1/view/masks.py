"""Label maps from what others draw: masks in colours or class indices, grey maps, and QuPath's annotations."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..labels import LabelSet
from .pyramids import TILE

#: Bytes of a GeoJSON file that are read at most: parsed, it takes several times as much memory.
GEOJSON_BYTES = 50 << 20

#: GDAL's drivers of masks, by the first bytes of a file.
DRIVERS = {b"\x89PNG": "PNG", b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff", b"BM": "BMP"}

#: GDAL keeps so many bytes of decoded blocks, and reads PNG files row by row: as a whole, it would hide damage.
GDAL = {"GDAL_CACHEMAX": 16 << 20, "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


@dataclass(frozen=True)
class Frame:
    """A slide's size in px of full resolution, and that of a label map of it."""

    height: float
    width: float
    rows: int
    columns: int


def mask_strips(path: Path, label_set: LabelSet | None, rows: int, columns: int) -> Iterator[np.ndarray]:
    """Yield a mask, stretched to `rows` by `columns` px, in strips of TILE rows as class indices.

    Parameters
    ----------
    path : Path
        One channel without a palette holds class indices; others hold the label set's colours.
    label_set : LabelSet or None
        None gives the values of the first channel as they are.
    rows, columns : int

    Yields
    ------
    ndarray of shape (up to TILE, columns), uint8
        The number of classes where a pixel is of no class.

    Raises
    ------
    InputError
        If the file cannot be read as such a mask.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    with _opened(path) as file:
        if file.dtypes[0] != "uint8":
            raise InputError(f"{path}: pixels of type {file.dtypes[0]}; expected an 8-bit mask")
        classes = _classes_of(file, label_set)
        bands = [1, 2, 3] if file.count >= 3 else [1]
        down = file.height / rows
        for top in range(0, rows, TILE):
            height = min(TILE, rows - top)
            window = Window(0, top * down, file.width, height * down)
            shape = len(bands), height, columns
            yield classes(file.read(bands, window=window, out_shape=shape, resampling=Resampling.nearest))


def mask_size(path: Path) -> tuple[int, int]:
    """Return height and width of a mask's file, in px; InputError if it cannot be read."""
    with _opened(path) as file:
        return file.height, file.width


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with path.open("rb") as file:
        begins = file.read(4)
    driver = DRIVERS.get(begins) or DRIVERS.get(begins[:2])
    if driver is None:
        raise InputError(f"{path}: not a mask; expected PNG, TIFF or BMP")
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # for all threads: a mask lies nowhere on earth
    try:
        with rasterio.Env(**GDAL), rasterio.open(path, driver=driver) as file:
            yield file
    except RasterioError as error:
        raise InputError(f"{path}: not a mask, or damaged ({error}); write it again") from error


def _classes_of(file: Any, label_set: LabelSet | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns a mask's channels (K, H, W) into class indices (H, W)."""
    if label_set is None:
        return lambda channels: channels[0]
    if file.count >= 3:
        return lambda channels: _by_colour(np.moveaxis(channels[:3], 0, -1), label_set)
    table = np.minimum(np.arange(256), len(label_set)).astype(np.uint8)
    if file.colorinterp[0].name == "palette":
        palette = file.colormap(1)
        table = _by_colour(np.array([palette.get(value, (0, 0, 0, 0))[:3] for value in range(256)]), label_set)
    return lambda channels: table[channels[0]]


def _by_colour(colours: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Return the class index of each colour (..., 3); the number of classes where it is of none."""
    packed = colours.astype(np.int32) @ (1 << 16, 1 << 8, 1)
    known = np.array(list(label_set.colours.values())) @ (1 << 16, 1 << 8, 1)
    order = known.argsort(kind="stable")
    place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
    return np.where(known[order][place] == packed, order[place], len(label_set)).astype(np.uint8)


@dataclass(frozen=True)
class Annotations:
    """What somebody has drawn on a slide.

    Attributes
    ----------
    shapes : tuple of (geometry, int)
        Polygons in px of full resolution, and their class indices, in the order in which they cover one another.
    unknown : dict of str to int
        How often a name occurs that no class has; these are left out.
    """

    shapes: tuple[tuple[Any, int], ...]
    unknown: dict[str, int]


def read_annotations(path: Path, label_set: LabelSet) -> Annotations:
    """Read QuPath's GeoJSON; classes go by their code, by their name in words, or by both.

    Raises
    ------
    InputError
        If the file is too large, or no such file.
    """
    import shapely
    from shapely.geometry import shape

    if path.stat().st_size > GEOJSON_BYTES:
        raise InputError(f"{path}: more than {GEOJSON_BYTES >> 20} MB of annotations; save fewer, or a mask")
    names = {}
    for index, code in enumerate(label_set.codes):
        for name in (label_set.describe(code), label_set.name_of(code), code):
            names.setdefault(name.strip().lower(), index)
    shapes, unknown = [], {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content if isinstance(content, list) else content.get("features", [content])
        for feature in features:
            geometry = shapely.make_valid(shape(feature["geometry"]))
            name = str((feature.get("properties", {}).get("classification") or {}).get("name", "no class"))
            index = names.get(name.strip().lower())
            if index is None:
                unknown[name] = unknown.get(name, 0) + 1
            elif geometry.area:
                shapes.append((geometry, index))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{path}: not GeoJSON as QuPath exports it ({error}); export it again") from error
    return Annotations(tuple(shapes), unknown)


def annotation_strips(annotations: Annotations, frame: Frame, nothing: int) -> Iterator[np.ndarray]:
    """Yield annotations as strips of class indices, (up to TILE, columns) uint8; `nothing` where nothing is drawn."""
    from rasterio.features import rasterize
    from rasterio.transform import Affine
    from shapely import STRtree, box

    tree = STRtree([geometry for geometry, _ in annotations.shapes])
    down, across = frame.height / frame.rows, frame.width / frame.columns
    for first in range(0, frame.rows, TILE):
        rows = min(TILE, frame.rows - first)
        top = first * down
        found = tree.query(box(0, top, frame.width, top + rows * down))
        strip = np.full((rows, frame.columns), nothing, np.uint8)
        if len(found):
            place = Affine(across, 0, 0, 0, down, top)
            rasterize((annotations.shapes[i] for i in sorted(found)), out=strip, transform=place)
        yield strip
