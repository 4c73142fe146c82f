"""Read GeoJSON of QuPath and other programs: a file's features, in any kind of collection, and their geometries."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..io.reading import line_of, read_bytes

if TYPE_CHECKING:
    from shapely import MultiPoint, MultiPolygon, Polygon

MOST_BYTES = 50 << 20  #: greatest size of GeoJSON: parsed, it takes several times as much memory
FARTHEST = 1e8  #: limit of coordinates, in px; beyond any slide

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
TYPES = ("FeatureCollection", "Feature", *GEOMETRIES)


def read_features(path: Path) -> list[Any]:
    """Read a file's features in their order, each before those within it; they may be values of any type.

    The file is a feature collection, a list of features, one feature, or a geometry, perhaps packed by gzip. Raises
    InputError for other files, and for files larger than `MOST_BYTES`.
    """
    text = _text_of(path)
    try:
        content = _documents(text)
        if not (isinstance(content, list) or content.get("type") in TYPES or _members(content) is not None):
            raise TypeError("neither a feature nor a collection of them")
        return [*_features_in(content)]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not GeoJSON as QuPath exports it ({line_of(error)}); export it again") from error


def _text_of(path: Path) -> str:
    content = read_bytes(path, MOST_BYTES)
    if content.startswith(b"\x1f\x8b"):
        try:
            content = zlib.decompressobj(31).decompress(content, MOST_BYTES + 1)
        except zlib.error as error:
            raise InputError(f"{path}: packed by gzip, and damaged ({error}); export it again") from error
        if len(content) > MOST_BYTES:
            raise InputError(f"{path}: more than {MOST_BYTES >> 20} MB unpacked; export fewer annotations")
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:  # QuPath once wrote in the encoding of the machine
        return content.decode("cp1252", "replace")


def _documents(text: str) -> Any:
    """Parse a JSON text; a text with a document on each line becomes a list of documents."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def _features_in(content: Any) -> Iterator[Any]:
    """Yield a document's features, each before those within it."""
    waiting = [content]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry[::-1]
        elif (members := _members(entry)) is not None:
            waiting.append(members)
        elif isinstance(entry, dict):
            yield entry
            waiting += (typed(list, part.get("childObjects")) for part in (entry, typed(dict, entry.get("properties"))))
        else:
            yield entry


def _members(content: Any) -> list | None:
    """Return a collection's members, which some programs write under another key, or by the features' names."""
    content = typed(dict, content)
    members = content.get("features", content.get("annotations"))
    if isinstance(members, dict):
        return [*members.values()]
    return members if isinstance(members, list) else None


def typed(kind: type, value: Any) -> Any:
    """Return a value if it has this type, else an empty value of the type."""
    return value if isinstance(value, kind) else kind()


def points_of(geometry: Any) -> MultiPoint | None:
    """Return the points of a geometry, or None if it has none; ValueError if they are damaged."""
    import shapely

    kind, coordinates = map(typed(dict, geometry).get, ("type", "coordinates"))
    if kind not in ("Point", "MultiPoint"):
        return None
    points = shapely.MultiPoint(_coordinates([coordinates] if kind == "Point" else coordinates))
    return None if points.is_empty else points


def region_of(geometry: Any) -> Polygon | MultiPolygon:
    """Return the parts of a geometry with an area, made valid; ValueError if there are none."""
    import shapely

    polygons, waiting = [], [geometry]
    while waiting:
        part = typed(dict, waiting.pop())
        if part.get("type") == "GeometryCollection":
            waiting += typed(list, part.get("geometries"))
        elif part.get("type") in ("Polygon", "MultiPolygon"):
            coordinates = typed(list, part.get("coordinates"))
            polygons += coordinates if part["type"] == "MultiPolygon" else [coordinates]
    if not any(polygons):
        raise ValueError("no region, as points and lines")
    try:
        shapes = [_polygon(rings) for rings in polygons if rings]
        whole = shapely.union_all(shapes) if len(shapes) > 1 else shapes[0]
    except shapely.errors.ShapelyError as error:
        raise ValueError("damaged coordinates") from error
    parts = [part for part in shapely.get_parts(shapely.get_parts(whole)) if part.area]
    if not parts:
        raise ValueError("no area")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _polygon(rings: Any) -> Polygon | MultiPolygon:
    """Return the valid shape of an outline and its holes, empty if it has under three points; ValueError if damaged.

    Holes may touch the outline and each other; `make_valid` of the whole would then fill them.
    """
    import shapely

    if not isinstance(rings, list):
        raise ValueError("damaged coordinates")
    shell, *holes = [_coordinates(ring) for ring in rings]
    holes = [*filter(_is_outline, holes)]
    whole = shapely.Polygon(shell, holes) if _is_outline(shell) else shapely.Polygon()
    if whole.is_valid:
        return whole
    outline, *inner = (shapely.make_valid(shapely.Polygon(ring)) for ring in (shell, *holes))
    return outline.difference(shapely.union_all(inner)) if inner else outline


def _coordinates(points: Any) -> np.ndarray:
    """Return x and y of points, (N, 2); ValueError if they are damaged, or beyond `FARTHEST`."""
    try:
        values = np.array([point[:2] for point in points], float).reshape(-1, 2)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ValueError("damaged coordinates") from error
    if not (np.abs(values) < FARTHEST).all():  # also refuses NaN
        raise ValueError("damaged coordinates")
    return values


def _is_outline(ring: np.ndarray) -> bool:
    """Tell whether a ring has at least three points, not counting a last one that repeats the first."""
    return len(ring) > 2 + (ring[:1] == ring[-1:]).all()
