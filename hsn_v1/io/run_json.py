"""What results say of themselves in ``run.json``: the classes of a label set, so that a viewer needs no model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..labels import LabelSet

RECORD = "run.json"  #: name of the file in a results folder


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
    """Return the label set that a record describes, as far as looking at results needs it.

    Raises
    ------
    InputError
        If the record is of another kind.
    """
    try:
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
        raise InputError(f"{name}: no record of a label set ({error}); segment the input again") from error


def _colour(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(f"colour {values}")
    return red, green, blue


def read_record(folder: Path) -> dict[str, Any]:
    """Return a results folder's record; empty if it has none, or one that cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
