"""Slides with annotations, and which classes are in each patch of them, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..labels import LabelSet
from ..parallel import in_parallel
from ..slide_io.annotations import (
    IGNORE,
    LIMIT,
    NO_CLASS,
    Regions,
    class_names,
    draw_labels,
    folded,
    lies_on,
    listed,
    read_annotations,
    regions_of,
)
from ..slide_io.slide import Slide, open_slide
from ..tiles import Window
from .labelled_images import Cut, LabelMap, Places, label_patches


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide with a file of annotations: a `labelled_images.Source`."""

    path: Path
    truth: Path  #: the annotations
    label_set: LabelSet
    patch_mpp: float  #: scale of the patches, in microns per pixel
    mpp: float | None = None  #: microns per pixel at full resolution, where the file does not state it

    def label(self, cut: Cut) -> tuple[Places, Sequence[str]]:
        """Return the patches' classes, and notes; raise InputError if it cannot be read or gives no patch.

        There is a patch around each point, and around each region that fits into a patch, beside those of the grid.
        """
        annotations, odd = read_annotations(self.truth, with_points=True)
        regions, unknown = regions_of(annotations, class_names(self.label_set))
        with open_slide(self.path, self.mpp) as slide:
            notes = [*slide.notes, *odd, *self._notes(slide, regions, unknown)]
            frame = slide.frame(self.patch_mpp)
        scale = slide.height / frame.height, slide.width / frame.width
        points = np.column_stack([regions.points[:, 1::-1] // np.array(scale), regions.points[:, 2]]).astype(int)
        points = points[(points[:, :2] >= 0).all(1) & (points[:, :2] < (frame.height, frame.width)).all(1)]

        def read(window: Window) -> np.ndarray:
            return draw_labels(regions, window, scale, len(self.label_set))

        centres = []
        for left, top, right, bottom in (geometry.bounds for geometry in regions.geometries):
            if (bottom - top) <= cut.size * scale[0] and (right - left) <= cut.size * scale[1]:
                centres.append(((top + bottom) / 2 / scale[0], (left + right) / 2 / scale[1]))
        labels = LabelMap(read, frame.height, frame.width, len(self.label_set), points)
        places = label_patches(labels, cut, centres)
        if not places:
            raise InputError(
                f"{self.truth}: no patch of {cut.size} px at {self.patch_mpp:g} mpp has a class; cut smaller ones, or "
                "annotate larger regions"
            )
        return places, notes

    def read(self, places: Iterable[tuple[int, int]], cut: Cut) -> Iterator[np.ndarray]:
        """Yield patches with their margin, which is mirrored at the slide's edges."""
        with open_slide(self.path, self.mpp) as slide:
            for y, x in places:
                yield slide.read(Window(y, x, cut.size, cut.size).grown(cut.context), self.patch_mpp)

    def _notes(self, slide: Slide, regions: Regions, unknown: Sequence[str]) -> list[str]:
        """Return what of the annotations is not used as it was drawn."""
        notes, codes = [], self.label_set.codes
        if unknown:
            notes.append(f"{self.truth}: left out, of no class: {listed(unknown)}")
        outside = [i for i, shape in enumerate(regions.geometries) if not lies_on(slide, *shape.bounds)]
        outside += [i for i, (x, y, _) in enumerate(regions.points.tolist()) if not lies_on(slide, x, y, x, y)]
        if outside:
            notes.append(f"{self.truth}: {len(outside)} annotation{'s' * (len(outside) > 1)} outside the slide")
        if pairs := regions.overlaps():
            i, j = (codes[regions.classes[number]] if regions.classes[number] >= 0 else IGNORE for number in pairs[0])
            x, y = regions.geometries[pairs[0][1]].representative_point().coords[0]
            notes.append(
                f"{self.truth}: {len(pairs)} partial overlap{'s' * (len(pairs) > 1)} of two classes, where the smaller "
                f"region counts, such as {i} and {j} near x = {x:.0f}, y = {y:.0f}"
            )
        return notes


def classes_of(files: Sequence[Path], quiet: bool = False) -> list[str]:
    """Return the names of the classes in files of annotations, by name; in any case of the letters, each once.

    Files that cannot be read have none: what is wrong with them comes up where they are used.
    """
    names: dict[str, str] = {}
    for found in in_parallel(_names_in, [(file,) for file in files], f"reading {len(files)} files", quiet):
        for name in found:
            names.setdefault(folded(name), name)
    return sorted(name for form, name in names.items() if form not in (IGNORE, LIMIT, NO_CLASS))


def _names_in(file: Path) -> list[str]:
    try:
        return [*dict.fromkeys(annotation.name for annotation in read_annotations(file, with_points=True)[0])]
    except InputError:
        return []
