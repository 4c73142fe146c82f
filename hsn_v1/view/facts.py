"""Facts of results for the pages, as JSON can hold them: classes with their areas, and a row for each entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate import tissue_shares
from ..io.reading import line_of
from ..labels import LabelSet
from ..slide_io.label_maps import read_areas
from .cache import Cache, stamp
from .entries import ODD_RECORD, Entry, failed_entry
from .palette import safe_colours


def classes_of(label_set: LabelSet) -> list[dict[str, Any]]:
    """Return code, name and colours of each class, in the order of their indices."""
    safe = safe_colours(label_set)
    return [
        {
            "code": code,
            "name": label_set.name_of(code),
            "published": list(colour),
            "safe": list(safe[code]),
            "plain": code in (label_set.background, label_set.other),
        }
        for code, colour in label_set.colours.items()
    ]


def areas_of(entry: Entry, label_set: LabelSet, tables: Cache) -> dict[str, dict[str, float]]:
    """Return pixels, mm2 and share of the tissue of each class that occurs, by its code, from the run's own tables."""
    path = entry.folder / label_set.name / "areas.csv"
    try:
        if entry.image:
            return _areas_of_image(entry, label_set)
        return tables.get(stamp(path), lambda: _read_areas(path))
    except (OSError, *ODD_RECORD):
        return {}


def _read_areas(path: Path) -> dict[str, dict[str, float]]:
    areas = [area for area in read_areas(path) if area.code and area.pixels]
    return {area.code: {"pixels": area.pixels, "mm2": area.mm2, "share": area.share} for area in areas}


def _areas_of_image(entry: Entry, label_set: LabelSet) -> dict[str, dict[str, float]]:
    counts = [int(count) for count in entry.record.get("pixels", {})[label_set.name]]
    shares, mm2 = tissue_shares(np.array(counts), label_set), (entry.mpp or 0) ** 2 / 1e6
    return {
        code: {"pixels": count, "mm2": count * mm2, "share": shares.get(index)}
        for index, (code, count) in enumerate(zip(label_set.codes, counts, strict=True))
        if count
    }


def entry_facts(entry: Entry) -> dict[str, Any]:
    """Return the facts of an entry that are on all pages."""
    height, width = entry.size or (None, None)
    return {
        "id": entry.id,
        "title": entry.title,
        "status": entry.status,
        "reason": entry.reason,
        "notes": [*entry.notes],
        "width": width,
        "height": height,
        "mpp": entry.mpp,
    }


def row_of(entry: Entry, tables: Cache) -> dict[str, Any]:
    """Return an entry's row of the index: shares of classes, and IoU where the run had ground truth."""
    try:
        sets = {label_set.name: _set_of(entry, label_set, tables) for label_set in entry.label_sets}
    except ODD_RECORD as error:
        return row_of(failed_entry(entry.id, entry.title, entry.folder, line_of(error)), tables)
    opens = bool(entry.label_sets or (entry.source and entry.status != "failed"))
    return {**entry_facts(entry), "opens": opens, "sets": sets}


def _set_of(entry: Entry, label_set: LabelSet, tables: Cache) -> dict[str, Any]:
    shares = {code: area["share"] for code, area in areas_of(entry, label_set, tables).items() if area["share"]}
    stages = entry.record.get("iou", {}).get(label_set.name)
    if not stages:
        return {"shares": shares}
    iou = {code: float(value) for code, value in [*stages.values()][-1].items()}
    return {"shares": shares, "iou": iou | {"": iou[""]}}  # that of all classes stands for their mean
