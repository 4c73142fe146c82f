"""Write outlines of a label map's regions as GeoJSON, which QuPath reads as annotations."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..io.writing import replacing
from ..labels import LabelSet
from .label_maps import STRIP, LabelMapInfo, read_strips

#: Lock for calls of rasterio, as its way to hide GDAL's warnings of arrays without a place on earth is not thread-safe.
POLYGONIZING = threading.Lock()

#: A growing region's pieces are fused each time they have this many points more than after the last time: rarely enough
#: to be fast, and often enough that its holes, most of its points, stay out of the union.
FUSED = 10_000

_compact = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


def write_polygons(
    path: Path,
    label_map: Path,
    info: LabelMapInfo,
    scale: float | np.ndarray,
    min_area: float,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """Write a label map's regions as a GeoJSON FeatureCollection in full-resolution px, one region on a line.

    A region is a connected component of a class (4-connected). Its outline follows the pixel edges, holes included, so
    that neighbours share their border and never overlap. A region that is dropped as a speck leaves its hole in the
    polygon around it: no class gains area that the label map does not give it.

    Outlines come from GDAL's polygonize, strip by strip, as it keeps all of its input in memory. Shapely joins regions
    that cross strips.

    `label_map` is a file of `label_maps.write_label_map`; its background class, and pixels without tissue, get no
    polygons, and its caveat is a member of the collection. `scale` is the number of full-resolution px per px of the
    map, along x and y. Regions of less than `min_area` square microns are dropped. Returns the number of dropped pixels
    of each class, (C,) int64, which its polygons lack. `progress` gets the number of rows read.
    """
    label_set, pixel_area = info.label_set, info.mpp**2
    classes = {index for index, code in enumerate(label_set.codes) if code != label_set.background}
    dropped = np.zeros(len(label_set), np.int64)
    least = math.ceil(round(min_area / pixel_area, 6))  # rounded, to keep an area of exactly this size
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection",')
        if info.caveat:
            file.write(f'"caveat":{_compact(info.caveat)},')
        file.write('"features":[')
        separator = "\n"
        for region in regions(label_map, classes, least, progress=progress):
            if region.pixels < least:
                dropped[region.index] += region.pixels
                continue
            properties = _compact(_properties(label_set, region.index, region.pixels * pixel_area))
            file.write(f'{separator}{{"type":"Feature","properties":{properties},')
            file.write('"geometry":{"type":"Polygon","coordinates":[')
            for number, ring in enumerate(region.rings()):
                # A row of pixels is rounded alike everywhere, so borders stay shared and polygons valid.
                file.write("," * (number > 0) + _compact(np.round(ring * scale, 2).tolist()))
            file.write("]}}")
            separator = ",\n"
        file.write("\n]}\n")
    return dropped


def _properties(label_set: LabelSet, index: int, area: float) -> dict:
    code = label_set.codes[index]
    return {
        "objectType": "annotation",
        "classification": {"name": label_set.describe(code), "color": list(label_set.colours[code])},
        "measurements": {"label map area µm^2": round(area, 2)},
    }


@dataclass
class Region:
    """A connected component of one class, as far as it has been read. Rings are closed, in px of the map."""

    index: int  #: class index
    pixels: int
    shells: list[np.ndarray] = field(default_factory=list)  #: outer rings, (N, 2) x and y, of its pieces in the strips
    holes: list[np.ndarray] = field(default_factory=list)  #: rings that a single piece encloses, (N, 2)

    def add(self, other: Region) -> None:
        """Merge a region that touches this one into it."""
        self.pixels += other.pixels
        self.shells += other.shells
        self.holes += other.holes

    def fuse(self) -> None:
        """Unite all shells into one; holes that they enclose together join `holes`, and are final from now on."""
        import shapely

        whole = shapely.union_all([shapely.Polygon(shell) for shell in self.shells])
        shell, *holes = (_corners(shapely.get_coordinates(ring)) for ring in (whole.exterior, *whole.interiors))
        self.shells = [shell]
        self.holes += holes

    def rings(self) -> list[np.ndarray]:
        """Return the rings of the whole outline, the outer ring first."""
        if len(self.shells) > 1:
            self.fuse()
        return [*self.shells, *self.holes]


def _corners(ring: np.ndarray) -> np.ndarray:
    """Return a ring without the points where its pieces met on a straight edge."""
    points = ring[:-1]
    along = (np.roll(points, 1, axis=0) == points) & (points == np.roll(points, -1, axis=0))
    points = points[~along.any(axis=1)]
    return np.vstack([points, points[:1]])


def regions(
    label_map: Path,
    classes: Collection[int],
    least: int,
    rows: int = STRIP,
    fused: int = FUSED,
    progress: Callable[[int], None] = lambda rows: None,
) -> Iterator[Region]:
    """Yield the regions of the given classes, in the order in which they end; outlines under `least` px may be missing.

    Memory holds a strip of `rows` rows of the map, and the outlines of the regions that may continue below it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    open_regions, owner, above = [], np.zeros(0, int), -1  # `owner` and `above`: region and class of the last row
    for top, strip in read_strips(label_map, rows):
        parts, new_regions = _parts(strip, top, classes, least)
        pieces = [*open_regions, *new_regions]
        columns = np.flatnonzero(strip[0] == above)
        links = owner[columns], len(open_regions) + parts[0, columns]
        graph = coo_array((np.ones(len(columns)), links), shape=(len(pieces), len(pieces)))
        groups = connected_components(graph, directed=False)[1]
        joined: dict[int, Region] = {}
        for group, part in zip(groups.tolist(), pieces, strict=True):
            if joined.setdefault(group, part) is not part:
                joined[group].add(part)
        going_on, owner = np.unique(groups[len(open_regions) + parts[-1]], return_inverse=True)
        open_regions, above = [joined.pop(group) for group in going_on.tolist()], strip[-1]
        for region in open_regions:
            points = [len(shell) for shell in region.shells]
            if sum(points[1:]) > sum(points[:1]) + fused:
                region.fuse()
        yield from (region for region in joined.values() if region.index in classes)
        progress(top + len(strip))
    yield from (region for region in open_regions if region.index in classes)


def _parts(strip: np.ndarray, top: int, classes: Collection[int], least: int) -> tuple[np.ndarray, list[Region]]:
    """Return the number of each pixel's region in a strip, and the regions in this order."""
    from rasterio.features import shapes
    from skimage.measure import label

    parts = label(strip, background=-1, connectivity=1).astype(np.int32) - 1
    pixels = np.bincount(parts.ravel())
    indices = np.empty(len(pixels), int)
    indices[parts] = strip
    pieces = [Region(index, count) for index, count in zip(indices.tolist(), pixels.tolist(), strict=True)]
    drawn = pixels >= least
    drawn[parts[[0, -1]]] = True  # they may grow in the neighbouring strips
    drawn &= np.isin(indices, list(classes))
    with POLYGONIZING:
        outlines = list(shapes(parts, mask=drawn[parts], connectivity=4))
    for shape, part in outlines:
        shell, *holes = (np.add(ring, (0, top)) for ring in shape["coordinates"])
        pieces[int(part)].shells.append(shell)
        pieces[int(part)].holes += holes
    return parts, pieces
