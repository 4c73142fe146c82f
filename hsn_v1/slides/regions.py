"""Annotated regions that limit the segmentation of a slide, and the area of each class in each region."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from ..errors import InputError
from ..io.reading import read_bytes
from ..io.writing import write_table
from ..labels import LabelSet
from ..slide_io.annotations import (
    IGNORE,
    LIMIT,
    Annotation,
    Regions,
    draw_labels,
    folded,
    lies_on,
    read_annotations,
    regions_of,
)
from ..slide_io.label_maps import AREA_COLUMNS, LabelMapInfo, areas_of
from ..slide_io.slide import Slide
from ..tiles import Window
from .job import LabelMaps

BLOCK = 2048  #: side of the part of a label map that is in memory at once, in px


@dataclass(frozen=True)
class SlideRegions:
    """Regions of a slide."""

    shapes: Sequence[Annotation]  #: in the file's order; they may overlap
    regions: Regions  #: the same as class 0, less the annotations to ignore
    height: int  #: height of the slide, in px at full resolution
    width: int

    def inside(self, window: Window, frame: Window, regions: Regions | None = None) -> np.ndarray:
        """Return a bool mask of a window's pixels in regions; `frame` is the whole slide in the window's px."""
        scale = self.height / frame.height, self.width / frame.width
        return draw_labels(regions or self.regions, window, scale, 1) == 0

    def touched(self, height: int, width: int) -> np.ndarray:
        """Return a bool mask of a small picture's pixels that touch regions, and of pixels up to two px around them."""
        frame = Window(0, 0, height, width)
        inside = self.inside(frame, frame)
        for shape in self.shapes:  # a small one may hold no pixel's centre
            x, y = shape.geometry.representative_point().coords[0]
            row, column = int(y * height / self.height), int(x * width / self.width)
            inside[min(max(row, 0), height - 1), min(max(column, 0), width - 1)] = True
        return binary_dilation(inside, iterations=2)

    def limited(self, label_maps: LabelMaps, frame: Window, label_sets: Sequence[LabelSet]) -> LabelMaps:
        """Return label maps without tissue outside the regions; `frame` is the whole map."""

        def reader(label_set: LabelSet) -> Callable[[Window], np.ndarray]:
            read = label_maps.readers[label_set.name]
            return lambda window: np.where(self.inside(window, frame), read(window), np.uint8(len(label_set)))

        return replace(
            label_maps, regions=self, readers={label_set.name: reader(label_set) for label_set in label_sets}
        )

    def write_areas(self, path: Path, read: Callable[[Window], np.ndarray], info: LabelMapInfo) -> None:
        """Write a table of the area of each class in each region, like ``areas.csv``; `read` reads the label map."""
        rows = []
        for number, shape in enumerate(self.shapes, 1):
            counts = self._counts(shape, read, info)
            rows += [(number, shape.name, *area.cells()) for area in areas_of(counts, info) if area.pixels]
        write_table(path, [("region", "annotation", *AREA_COLUMNS), *rows])

    def _counts(self, shape: Annotation, read: Callable[[Window], np.ndarray], info: LabelMapInfo) -> np.ndarray:
        """Return the number of pixels of each class, and last of no tissue, in a region."""
        frame, counts = Window(0, 0, info.height, info.width), np.zeros(len(info.label_set) + 1, np.int64)
        down, across = frame.height / self.height, frame.width / self.width
        left, top, right, bottom = (np.array(shape.geometry.bounds) * [across, down, across, down]).astype(int).tolist()
        around = Window(top, left, bottom - top + 1, right - left + 1).overlap(frame)
        only = Regions([shape.geometry], [0])
        for y, x in product(range(around.top, around.bottom, BLOCK), range(around.left, around.right, BLOCK)):
            window = Window(y, x, BLOCK, BLOCK).overlap(around)
            counts += np.bincount(read(window)[self.inside(window, frame, only)], minlength=len(counts))
        return counts


def read_regions(path: Path, slide: Slide) -> tuple[SlideRegions, list[str]]:
    """Read the regions of a slide: the annotations of class ``Region*``, or, without any, all except ``Ignore*``.

    Also returns notes on features that were left out. Raises InputError if no region lies on the slide.
    """
    annotations, notes = read_annotations(path)
    limits = [annotation for annotation in annotations if folded(annotation.name) == LIMIT]
    ignored = [annotation for annotation in annotations if folded(annotation.name) == IGNORE]
    shapes = [
        annotation
        for annotation in limits or annotations
        if annotation not in ignored and lies_on(slide, *annotation.geometry.bounds)
    ]
    if not shapes:
        raise InputError(f"{path}: no region on the slide of {slide.width} x {slide.height} px; annotate some")
    regions, _ = regions_of([*(replace(shape, name="inside") for shape in shapes), *ignored], {"inside": 0})
    return SlideRegions(shapes, regions, slide.height, slide.width), notes


def version_of_regions(path: Path) -> str:
    """Return a hash of a file of regions, 16 hex digits, to notice later changes."""
    return hashlib.sha256(read_bytes(path)).hexdigest()[:16]
