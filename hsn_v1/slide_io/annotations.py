"""Annotations that people draw on slides, in GeoJSON as QuPath exports it, and label maps of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..labels import LabelSet
from ..tiles import Window
from .geojson import GEOMETRIES, TYPES, dict_of, list_of, read_features
from .polygons import POLYGONIZING

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon, STRtree

#: Endings of the files that `read_annotations` reads.
GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz")

NO_CLASS = "no class"  #: name of what is not classified
JOINT = ": "  #: what stands between the names of a derived class, the base class first
FARTHEST = 1e8  #: px from the slide's corner, beyond any slide
NAMED = 5  #: features or names that a note lists
NO_FEATURE = "no feature of GeoJSON"


@dataclass(frozen=True)
class Annotation:
    """A region that somebody has drawn.

    Attributes
    ----------
    name : str
        Of its class; of a derived one, all names, such as ``"Tumor: Positive"``; or `NO_CLASS`.
    geometry : shapely Polygon or MultiPolygon
        In px of full resolution, valid, with an area.
    """

    name: str
    geometry: Polygon | MultiPolygon


def read_annotations(path: Path) -> tuple[list[Annotation], list[str]]:
    """Read the annotations of a GeoJSON file, in their order; what is within others, too.

    A feature that is no region (a point, a line, an outline of two points, no geometry at all) is left out.

    Parameters
    ----------
    path : Path
        A feature collection, a list of features, one feature, or a geometry; may be packed by gzip.

    Returns
    -------
    annotations : list of Annotation
    notes : list of str
        Which features were left out, and why.

    Raises
    ------
    InputError
        If the file cannot be read, is larger than `MOST_BYTES`, or is no GeoJSON.
    """
    features = read_features(path)
    annotations, odd = [], {}
    for number, feature in enumerate(features, 1):
        try:
            annotations.append(_annotation_of(feature))
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


def _annotation_of(feature: Any) -> Annotation:
    """Return a feature's region; ValueError if it has none."""
    if not isinstance(feature, dict) or not (feature.get("type") in TYPES or "geometry" in feature):
        raise ValueError(NO_FEATURE)
    geometry = feature if feature.get("type") in GEOMETRIES else feature.get("geometry")
    if not geometry:
        raise ValueError("no geometry")
    return Annotation(_class_name(dict_of(feature.get("properties")).get("classification")), _region_of(geometry))


def _class_name(classification: Any) -> str:
    """Return the name of a class: QuPath has written it in several ways."""
    if isinstance(classification, dict):
        classification = classification.get("names") or classification.get("name")
    names = classification if isinstance(classification, list) else [classification]
    return JOINT.join(str(name).strip() for name in names if name not in (None, "")) or NO_CLASS


def _region_of(geometry: Any) -> Polygon | MultiPolygon:
    """Return what of a geometry has an area, made valid; ValueError if nothing has."""
    import shapely

    polygons, waiting = [], [geometry]
    while waiting:
        part = dict_of(waiting.pop())
        if part.get("type") == "GeometryCollection":
            waiting += list_of(part.get("geometries"))
        elif part.get("type") in ("Polygon", "MultiPolygon"):
            coordinates = list_of(part.get("coordinates"))
            polygons += coordinates if part["type"] == "MultiPolygon" else [coordinates]
    polygons = [rings for rings in polygons if rings]
    if not polygons:
        raise ValueError("no region, as points and lines")
    try:
        shapes = [shapely.make_valid(_polygon(rings)) for rings in polygons]
        whole = shapely.union_all(shapes) if len(shapes) > 1 else shapes[0]
    except shapely.errors.ShapelyError as error:
        raise ValueError("damaged coordinates") from error
    parts = [part for part in shapely.get_parts(shapely.get_parts(whole)) if part.area]
    if not parts:
        raise ValueError("no area")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _polygon(rings: Any) -> Polygon:
    """Return a polygon of its outline and its holes, an empty one of less than three points; ValueError if damaged."""
    import shapely

    try:
        points = [np.array([point[:2] for point in ring], float).reshape(-1, 2) for ring in rings]
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ValueError("damaged coordinates") from error
    if not all((np.abs(ring) < FARTHEST).all() for ring in points):  # nor NaN
        raise ValueError("damaged coordinates")
    shell, *holes = points
    return shapely.Polygon(shell, [*filter(_is_outline, holes)]) if _is_outline(shell) else shapely.Polygon()


def _is_outline(ring: np.ndarray) -> bool:
    """Return whether a ring has at least three points, without the last if it is the first again."""
    return len(ring) > 2 + (ring[:1] == ring[-1:]).all()


# --- Label maps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regions:
    """Annotated regions of a slide, the largest first, as smaller ones cover them.

    Attributes
    ----------
    geometries : sequence of shapely Polygon or MultiPolygon
        In px of full resolution.
    classes : sequence of int
        Class index of each.
    """

    geometries: Sequence[Polygon | MultiPolygon]
    classes: Sequence[int]

    @cached_property
    def tree(self) -> STRtree:
        """The regions by where they lie."""
        from shapely import STRtree

        return STRtree(self.geometries)


def class_names(label_set: LabelSet) -> dict[str, int]:
    """Return the index of each class by what annotations may call it: its code, its name in words, or both."""
    names: dict[str, int] = {}
    for index, code in enumerate(label_set.codes):
        for name in (label_set.describe(code), label_set.name_of(code), code):
            names.setdefault(_folded(name), index)
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def regions_of(annotations: Sequence[Annotation], classes: Mapping[str, int]) -> tuple[Regions, list[str]]:
    """Choose the annotations of some classes, in any case of the letters; a derived class goes with its base class.

    Parameters
    ----------
    annotations : sequence of Annotation
    classes : mapping of str to int
        Class indices by the classes' names, such as from `class_names`.

    Returns
    -------
    regions : Regions
    unknown : list of str
        Names that are of none of the classes, with their number of annotations: ``"Tumor (3)"``.
    """
    indices = {_folded(name): index for name, index in classes.items()}
    chosen, unknown = [], Counter()
    for annotation in sorted(annotations, key=lambda annotation: -annotation.geometry.area):
        parts = annotation.name.split(JOINT)
        names = [_folded(JOINT.join(parts[:count])) for count in range(len(parts), 0, -1)]
        index = next((indices[name] for name in names if name in indices), None)
        if index is None:
            unknown[annotation.name] += 1
        else:
            chosen.append((annotation.geometry, index))
    regions = Regions([geometry for geometry, _ in chosen], [index for _, index in chosen])
    return regions, [f"{name} ({count})" for name, count in unknown.most_common()]


def draw_labels(regions: Regions, window: Window, scale: tuple[float, float], unlabelled: int) -> np.ndarray:
    """Draw regions as a window of a label map; a pixel is of the smallest region that its centre lies in.

    Parameters
    ----------
    regions : Regions
    window : Window
        In px of the label map.
    scale : (float, float)
        Full-resolution px to a px of the label map, along y and x.
    unlabelled : int
        Index of pixels in no region.

    Returns
    -------
    ndarray of shape (window.height, window.width), uint8
    """
    from rasterio.features import rasterize
    from rasterio.transform import Affine
    from shapely import box

    down, across = scale
    labels = np.full((window.height, window.width), unlabelled, np.uint8)
    top, left = window.top * down, window.left * across
    found = np.sort(regions.tree.query(box(left, top, window.right * across, window.bottom * down)))
    if len(found):
        shapes = [(regions.geometries[i], regions.classes[i]) for i in found.tolist()]
        with POLYGONIZING:
            rasterize(shapes, out=labels, transform=Affine(across, 0, left, 0, down, top))
    return labels
