"""Outlines of a label map's regions as GeoJSON, which QuPath reads as annotations."""

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

#: Rasterio hides GDAL's warnings that arrays lie nowhere on earth by ways that threads take from each other.
POLYGONIZING = threading.Lock()

#: A region's pieces are fused while it grows each time that they have so many points more than after the last time:
#: seldom enough for the pace, and often enough that its holes, most of its points, are not held in a union.
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

    A region is what hangs together by pixel edges (4-connected). Its outline follows the pixel edges, holes included,
    so that neighbours share their border and never overlap. A region that is dropped as a speck leaves its hole in the
    polygon around it: no class gains area that the label map does not give it.

    Outlines come from GDAL's polygonize, strip by strip, as it keeps all that it is given in memory, and regions that
    cross strips are put together by shapely.

    `label_map` is a file of `label_maps.write_label_map`; its background class, and pixels without tissue, get no
    polygons, and its caveat is a member of the collection. `scale` is the number of full-resolution px to a px of the
    map, along x and y. Regions of less than `min_area` square microns are dropped: their pixels of each class, which
    its polygons lack of its area in the map, are returned, (C,) int64. `progress` gets the number of rows read.
    """
    label_set, pixel_area = info.label_set, info.mpp**2
    classes = {index for index, code in enumerate(label_set.codes) if code != label_set.background}
    dropped = np.zeros(len(label_set), np.int64)
    least = math.ceil(round(min_area / pixel_area, 6))  # rounded, so that an area of just so many pixels is kept
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
    """Pixels of one class that hang together by their edges, as far as they are known. Rings are closed, in map px."""

    index: int  #: of the class
    pixels: int
    shells: list[np.ndarray] = field(default_factory=list)  #: outer rings, (N, 2) x and y, of its pieces in the strips
    holes: list[np.ndarray] = field(default_factory=list)  #: rings that a piece closes in by itself, (N, 2)

    def add(self, other: Region) -> None:
        """Take in a region that touches this one."""
        self.pixels += other.pixels
        self.shells += other.shells
        self.holes += other.holes

    def fuse(self) -> None:
        """Make one shell of all, and holes of what they close in together: these stay as they are from now on."""
        import shapely

        whole = shapely.union_all([shapely.Polygon(shell) for shell in self.shells])
        shell, *holes = (_corners(shapely.get_coordinates(ring)) for ring in (whole.exterior, *whole.interiors))
        self.shells = [shell]
        self.holes += holes

    def rings(self) -> list[np.ndarray]:
        """Return the whole outline, the outer ring first."""
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
    """Yield the regions of the given classes, in the order in which they end; of fewer pixels, perhaps without outline.

    A strip of so many rows of the map is in memory, and the outlines of the regions that may go on below it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    open_regions, owner, above = [], np.zeros(0, int), -1  # `owner` and `above`: of the pixels in the last row so far
    for top, strip in read_strips(label_map, rows):
        parts, found = _parts(strip, top, classes, least)
        known = [*open_regions, *found]
        columns = np.flatnonzero(strip[0] == above)
        links = owner[columns], len(open_regions) + parts[0, columns]
        graph = coo_array((np.ones(len(columns)), links), shape=(len(known), len(known)))
        groups = connected_components(graph, directed=False)[1]
        joined: dict[int, Region] = {}
        for group, part in zip(groups.tolist(), known, strict=True):
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
    """Return the number of the region that each pixel of a strip belongs to, and the regions in this order."""
    from rasterio.features import shapes
    from skimage.measure import label

    parts = label(strip, background=-1, connectivity=1).astype(np.int32) - 1
    pixels = np.bincount(parts.ravel())
    indices = np.empty(len(pixels), int)
    indices[parts] = strip
    found = [Region(index, count) for index, count in zip(indices.tolist(), pixels.tolist(), strict=True)]
    drawn = pixels >= least
    drawn[parts[[0, -1]]] = True  # they may grow in the neighbouring strips
    drawn &= np.isin(indices, list(classes))
    with POLYGONIZING:
        outlines = list(shapes(parts, mask=drawn[parts], connectivity=4))
    for shape, part in outlines:
        shell, *holes = (np.add(ring, (0, top)) for ring in shape["coordinates"])
        found[int(part)].shells.append(shell)
        found[int(part)].holes += holes
    return parts, found
