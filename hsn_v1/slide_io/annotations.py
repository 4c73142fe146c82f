"""Annotations that people draw on slides, in GeoJSON as QuPath exports it, and label maps of them.

Two classes are what QuPath means by them: regions of ``Ignore*`` are of no class, whatever they lie on, and where there
are regions of ``Region*``, what lies outside them is of no class, either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..io.tables import find_files, folded
from ..labels import LabelSet
from ..tiles import Window
from .geojson import GEOMETRIES, TYPES, points_of, read_features, region_of, typed
from .polygons import POLYGONIZING

if TYPE_CHECKING:
    from shapely import MultiPoint, MultiPolygon, Polygon, STRtree

    from .slide import Slide

GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz")  #: of the files that `read_annotations` reads

NO_CLASS = "no class"  #: name of what is not classified
JOINT = ": "  #: what stands between the names of a derived class, the base class first
NAMED = 5  #: features or names that a note lists
NO_FEATURE = "no feature of GeoJSON"
IGNORE, LIMIT = "ignore*", "region*"  #: QuPath's classes of what is no class's, and of what alone counts, folded
NO_INDEX = -1  #: in place of a class index
SLIVER = 0.01  #: share of a region that lies on its neighbour where both were meant to touch


@dataclass(frozen=True)
class Annotation:
    """A region that somebody has drawn."""

    name: str  #: of its class; of a derived one, all names, such as "Tumor: Positive"; or `NO_CLASS`
    geometry: Polygon | MultiPolygon | MultiPoint  #: shapely's, in px of full resolution, valid; a region has an area


def find_annotations(folder: Path, slides: Sequence[Path]) -> dict[Path, Path]:
    """Return each slide's file of annotations, which has the slide's name, with or without its ending.

    Slides without one are left out. A name may differ in case and in how accents are written.
    """
    files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(GEOJSON_SUFFIXES)]
    names = {
        slide: [f"{stem}{end}" for stem in (slide.name, slide.stem) for end in GEOJSON_SUFFIXES] for slide in slides
    }
    there = find_files([name for forms in names.values() for name in forms], files)
    return {slide: there[name] for slide, forms in names.items() for name in forms[::-1] if name in there}


def lies_on(slide: Slide, left: float, top: float, right: float, bottom: float) -> bool:
    """Tell whether some of a rectangle lies on a slide; in px of full resolution."""
    return right >= 0 and bottom >= 0 and left < slide.width and top < slide.height


def read_annotations(path: Path, with_points: bool = False) -> tuple[list[Annotation], list[str]]:
    """Read the annotations of a GeoJSON file, in their order; what is within others, too.

    A feature that is no region (a point, unless these are asked for, a line, an outline of two points, no geometry at
    all) is left out, with a note. Raises InputError as `read_features` does, and if there is no feature in the file.
    """
    features = read_features(path)
    annotations, odd = [], {}
    for number, feature in enumerate(features, 1):
        try:
            annotations.append(_annotation_of(feature, with_points))
        except ValueError as error:
            odd.setdefault(str(error), []).append(f"number {number}")
    if len(odd.get(NO_FEATURE, ())) == len(features) > 0:
        raise InputError(f"{path}: not GeoJSON as QuPath exports it (no features in it); export it again")
    return annotations, [
        f"{path}: {len(numbers)} feature{'s' * (len(numbers) > 1)} left out, {reason}: {listed(numbers)}"
        for reason, numbers in odd.items()
    ]


def listed(words: Sequence[str]) -> str:
    """Return the first of some words, and how many more there are."""
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + f" and {more} more" * (more > 0)


def _annotation_of(feature: Any, with_points: bool) -> Annotation:
    if not isinstance(feature, dict) or not (feature.get("type") in TYPES or "geometry" in feature):
        raise ValueError(NO_FEATURE)
    geometry = feature if feature.get("type") in GEOMETRIES else feature.get("geometry")
    if not geometry:
        raise ValueError("no geometry")
    name = _class_name(typed(dict, feature.get("properties")).get("classification"))
    points = points_of(geometry) if with_points else None
    return Annotation(name, points or region_of(geometry))


def _class_name(classification: Any) -> str:
    if isinstance(classification, dict):
        classification = classification.get("names") or classification.get("name")
    names = classification if isinstance(classification, list) else [classification]
    return JOINT.join(str(name).strip() for name in names if name not in (None, "")) or NO_CLASS


@dataclass(frozen=True)
class Regions:
    """Annotated regions of a slide, the largest first, as smaller ones cover them. In px of full resolution."""

    geometries: Sequence[Polygon | MultiPolygon]
    classes: Sequence[int]  #: class index of each; `NO_INDEX` of those to ignore
    limits: Sequence[Polygon | MultiPolygon] = ()  #: if there are some, pixels outside them are of no class
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))  #: (P, 3): x, y, class index

    @cached_property
    def tree(self) -> STRtree:
        """The regions by where they lie."""
        from shapely import STRtree

        return STRtree(self.geometries)

    def overlaps(self) -> list[tuple[int, int]]:
        """Return the numbers of regions of two classes that lie on each other in part, by over `SLIVER` of one."""
        found = []
        for i, j in self.tree.query(self.tree.geometries, predicate="overlaps").T.tolist():
            if i < j and self.classes[i] != self.classes[j]:  # the larger one first
                shared = self.geometries[i].intersection(self.geometries[j]).area
                found += [(i, j)] if shared > SLIVER * self.geometries[j].area else []
        return found


def class_names(label_set: LabelSet) -> dict[str, int]:
    """Return the index of each class by what annotations may call it: its code, its name in words, or both."""
    names: dict[str, int] = {}
    for index, code in enumerate(label_set.codes):
        for name in (label_set.describe(code), label_set.name_of(code), code):
            names.setdefault(folded(name), index)
    return names


def regions_of(annotations: Sequence[Annotation], classes: Mapping[str, int]) -> tuple[Regions, list[str]]:
    """Choose the annotations of some classes, in any case of the letters; a derived class goes with its base class.

    `classes` are class indices by name, as of `class_names`. Returns also the names that are of none of the classes,
    with their number of annotations: ``"Tumor (3)"``.
    """
    from shapely import contains_xy, union_all

    indices = {IGNORE: NO_INDEX, LIMIT: None} | {folded(name): index for name, index in classes.items()}
    chosen, limits, points, unknown = [], [], [], Counter()
    for annotation in sorted(annotations, key=lambda annotation: -annotation.geometry.area):
        geometry, parts = annotation.geometry, annotation.name.split(JOINT)
        forms = [folded(JOINT.join(parts[:count])) for count in range(len(parts), 0, -1)]
        name = next((form for form in forms if form in indices), "")
        if not name:
            unknown[annotation.name] += 1
        elif geometry.geom_type == "MultiPoint":
            within = name not in (IGNORE, LIMIT)  # points of these mean nothing
            points += [(round(point.x), round(point.y), indices[name]) for point in geometry.geoms if within]
        elif indices[name] is None:
            limits.append(geometry)
        else:
            chosen.append((geometry, indices[name]))
    if limits:
        area = union_all(limits)
        points = [point for point in points if contains_xy(area, *point[:2])]
    geometries, numbers = zip(*chosen, strict=True) if chosen else ((), ())
    regions = Regions(geometries, numbers, limits, np.array(points, int).reshape(-1, 3))
    return regions, [f"{name} ({count})" for name, count in unknown.most_common()]


def read_regions(path: Path, label_set: LabelSet, with_points: bool = False) -> tuple[Regions, list[str]]:
    """Read the regions of a label set's classes from a file of annotations, and notes on what is left out."""
    annotations, notes = read_annotations(path, with_points)
    regions, unknown = regions_of(annotations, class_names(label_set))
    if unknown:
        notes = [*notes, f"{path}: left out, of no class of {label_set.name}: {listed(unknown)}"]
    return regions, notes


def draw_labels(regions: Regions, window: Window, scale: tuple[float, float], unlabelled: int) -> np.ndarray:
    """Draw regions as a window of a label map, uint8; a pixel is of the smallest region that its centre lies in.

    `scale` is the number of px of full resolution to a px of the label map, along y and x; `unlabelled` the index of
    pixels of no class.
    """
    from shapely import box

    down, across = scale
    labels = np.full((window.height, window.width), unlabelled, np.uint8)
    view = box(window.left * across, window.top * down, window.right * across, window.bottom * down)
    seen = np.sort(regions.tree.query(view)).tolist()
    values = [unlabelled if index == NO_INDEX else index for index in regions.classes]
    _draw([(regions.geometries[i], values[i]) for i in seen], labels, window, scale)
    if regions.limits and seen:
        outside = np.ones_like(labels)
        _draw([(shape, 0) for shape in regions.limits if shape.intersects(view)], outside, window, scale)
        labels[outside == 1] = unlabelled
    return labels


def _draw(shapes: Sequence[tuple], out: np.ndarray, window: Window, scale: tuple[float, float]) -> None:
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    if shapes:
        transform = Affine(scale[1], 0, window.left * scale[1], 0, scale[0], window.top * scale[0])
        with POLYGONIZING:
            rasterize(shapes, out=out, transform=transform)
