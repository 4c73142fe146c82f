"""Read annotations of slides from GeoJSON, as QuPath exports it, and draw label maps of them.

Two classes have QuPath's meaning. Regions of ``Ignore*`` are of no class, even on top of other regions. If there are
regions of ``Region*``, pixels outside them are of no class, either.
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

GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz")  #: endings of the files that `read_annotations` reads

NO_CLASS = "no class"  #: name of an annotation without a class
JOINT = ": "  #: separator of a derived class's names, the base class first
NAMED = 5  #: most features or names that a note lists
NO_FEATURE = "no feature of GeoJSON"
IGNORE, LIMIT = "ignore*", "region*"  #: QuPath's classes of pixels to ignore, and of the only ones that count, folded
NO_INDEX = -1  #: class index of regions to ignore
SLIVER = 0.01  #: greatest share of a region on its neighbour if the two were meant only to touch


@dataclass(frozen=True)
class Annotation:
    """A region, or points, that somebody has drawn."""

    name: str  #: name of the class; of a derived class all names, such as "Tumor: Positive"; or `NO_CLASS`
    geometry: Polygon | MultiPolygon | MultiPoint  #: shapely's, in px of full resolution, valid; a region has an area


def find_annotations(folder: Path, slides: Sequence[Path]) -> dict[Path, Path]:
    """Find each slide's annotation file, which has the slide's name, with or without its ending.

    Slides without a file are left out. Case and the encoding of accents are ignored.
    """
    files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(GEOJSON_SUFFIXES)]
    names = {
        slide: [f"{stem}{end}" for stem in (slide.name, slide.stem) for end in GEOJSON_SUFFIXES] for slide in slides
    }
    there = find_files([name for forms in names.values() for name in forms], files)
    return {slide: there[name] for slide, forms in names.items() for name in forms[::-1] if name in there}


def lies_on(slide: Slide, left: float, top: float, right: float, bottom: float) -> bool:
    """Tell whether a rectangle, in px of full resolution, overlaps a slide."""
    return right >= 0 and bottom >= 0 and left < slide.width and top < slide.height


def read_annotations(path: Path, with_points: bool = False) -> tuple[list[Annotation], list[str]]:
    """Read the annotations of a GeoJSON file, in their order, including those within others.

    Features that are no regions (points unless `with_points`, lines, outlines of two points, no geometry at all) are
    left out, with a note. Raises InputError as `read_features` does, and if no entry of the file is a feature.
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
    """Return the first few words, and the number of the others."""
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
    classes: Sequence[int]  #: class index of each; `NO_INDEX` for those to ignore
    limits: Sequence[Polygon | MultiPolygon] = ()  #: if not empty, pixels outside them are of no class
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))  #: (P, 3): x, y, class index

    @cached_property
    def tree(self) -> STRtree:
        """Spatial index of the regions."""
        from shapely import STRtree

        return STRtree(self.geometries)

    def overlaps(self) -> list[tuple[int, int]]:
        """Return pairs of regions of different classes that partly overlap, by over `SLIVER` of the smaller one."""
        pairs = []
        for i, j in self.tree.query(self.tree.geometries, predicate="overlaps").T.tolist():
            if i < j and self.classes[i] != self.classes[j]:  # the larger one first
                shared = self.geometries[i].intersection(self.geometries[j]).area
                pairs += [(i, j)] if shared > SLIVER * self.geometries[j].area else []
        return pairs


def class_names(label_set: LabelSet) -> dict[str, int]:
    """Return class indices by the names that annotations may use: a class's code, its name in words, or both."""
    names: dict[str, int] = {}
    for index, code in enumerate(label_set.codes):
        for name in (label_set.describe(code), label_set.name_of(code), code):
            names.setdefault(folded(name), index)
    return names


def regions_of(annotations: Sequence[Annotation], classes: Mapping[str, int]) -> tuple[Regions, list[str]]:
    """Choose the annotations of some classes, ignoring case; a derived class counts as its base class if not listed.

    `classes` are class indices by name (see `class_names`). Also returns the names that match none of the classes, with
    their number of annotations: ``"Tumor (3)"``.
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
            within = name not in (IGNORE, LIMIT)  # their points have no meaning
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
    """Read the regions of a label set's classes from an annotation file, with notes on annotations left out."""
    annotations, notes = read_annotations(path, with_points)
    regions, unknown = regions_of(annotations, class_names(label_set))
    if unknown:
        notes = [*notes, f"{path}: left out, of no class of {label_set.name}: {listed(unknown)}"]
    return regions, notes


def draw_labels(regions: Regions, window: Window, scale: tuple[float, float], unlabelled: int) -> np.ndarray:
    """Draw regions as a window of a label map, uint8; a pixel gets the class of the smallest region at its centre.

    `scale` is the number of full-resolution px per px of the label map, along y and x. `unlabelled` is the index of
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
