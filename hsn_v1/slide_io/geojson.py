"""GeoJSON as QuPath and others write it: the features of a file, whatever holds them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.reading import line_of, read_bytes

#: Bytes of GeoJSON that are read at most: parsed, it takes several times as much memory.
MOST_BYTES = 50 << 20

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
TYPES = ("FeatureCollection", "Feature", *GEOMETRIES)


def read_features(path: Path) -> list[Any]:
    """Read a file's features in their order, each before those that are within it; they may be anything.

    Parameters
    ----------
    path : Path
        A feature collection, a list of features, one feature, or a geometry; may be packed by gzip.

    Raises
    ------
    InputError
        If the file cannot be read, is larger than `MOST_BYTES`, or is no GeoJSON.
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
    """Return the text of a file, packed or not, in whichever of the usual encodings."""
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
    """Return what a JSON text holds; of one with a document on each line, a list of them."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def _features_in(content: Any) -> Iterator[Any]:
    """Yield a document's features, each before the ones that are within it."""
    waiting = [content]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found[::-1]
        elif (members := _members(found)) is not None:
            waiting.append(members)
        elif isinstance(found, dict):
            yield found
            waiting += (list_of(part.get("childObjects")) for part in (found, dict_of(found.get("properties"))))
        else:
            yield found


def _members(content: Any) -> list | None:
    """Return what a collection holds, which some programs write by another name, or by the features' names."""
    content = dict_of(content)
    members = content.get("features", content.get("annotations"))
    if isinstance(members, dict):
        return [*members.values()]
    return members if isinstance(members, list) else None


def list_of(value: Any) -> list:
    """Return a list, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def dict_of(value: Any) -> dict:
    """Return a mapping, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}
