"""``run.json``, the record of results: how they were made, and their classes, so that a viewer needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..file_names import file_name
from ..labels import Colour, LabelSet
from .reading import read_json

RECORD = "run.json"  #: name of the file in a results folder

#: Types of what a record may hold: one that holds something else is damaged, or was not written by this package.
FIELDS = {
    "classes": dict,
    "results": dict,
    "failures": dict,
    "facts": dict,
    "columns": dict,
    "files": list,
    "notes": list,
    "label sets": list,
    "input": str,
    "images": str,
    "kind": str,
}


def record_of_label_set(label_set: LabelSet) -> dict[str, Any]:
    """Return what `label_set_of` needs, as JSON can hold it."""
    return {
        "colours": {code: list(colour) for code, colour in label_set.colours.items()},
        "names": dict(label_set.names),
        "unlabelled": dict(label_set.unlabelled),
        "background": label_set.background,
        "other": label_set.other,
    }


def label_set_of(name: str, record: Mapping[str, Any]) -> LabelSet:
    """Return the label set that a record describes, as far as looking at results needs it, or raise InputError."""
    try:
        if file_name(name) != name:
            raise ValueError("its name is not that of a folder")
        unlabelled = {
            str(code): colour if isinstance(colour, int) else _colour(colour)
            for code, colour in record.get("unlabelled", {}).items()
        }
        return LabelSet(
            name,
            {str(code): _colour(colour) for code, colour in record["colours"].items()},
            {},
            {str(code): str(words) for code, words in record.get("names", {}).items()},
            unlabelled,
            record.get("background"),
            other=record.get("other"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name!a}: no record of a label set ({error}); segment the input again") from error


def _colour(values: Any) -> Colour:
    red, green, blue = (int(value) for value in values)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(f"colour {values}")
    return red, green, blue


def read_record(folder: Path) -> dict[str, Any]:
    """Return a results folder's record; empty if it has none, or a damaged one: not JSON, too large, of other types."""
    try:
        record = read_json(folder / RECORD)
    except InputError:
        return {}
    right = isinstance(record, dict) and all(isinstance(record.get(key, kind()), kind) for key, kind in FIELDS.items())
    return record if right else {}
