"""What the pages say of results, as JSON can hold it: a row for each entry, and all about one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate import tissue_shares
from ..io.reading import read_table
from ..labels import LabelSet
from .cache import Cache, stamp
from .library import Entry
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


class Areas:
    """Pixels and areas of classes, read once from the tables that a run wrote."""

    def __init__(self):
        self._read = Cache(20_000)

    def of(self, entry: Entry, label_set: LabelSet) -> dict[str, dict[str, float]]:
        """Return pixels, mm2 and share of the tissue of each class that occurs, by its code."""
        if entry.image:
            return _of_image(entry, label_set)
        path = entry.folder / label_set.name / "areas.csv"
        try:
            return self._read.get(stamp(path), lambda: _read_areas(path))
        except (OSError, KeyError, ValueError, TypeError):
            return {}


def _read_areas(path: Path) -> dict[str, dict[str, float]]:
    rows = [row for row in read_table(path) if row["class"] and int(row["pixels"])]
    return {
        row["class"]: {
            "pixels": int(row["pixels"]),
            "mm2": float(row["mm2"]),
            "share": float(row["share_of_tissue"]) if row["share_of_tissue"] else None,
        }
        for row in rows
    }


def _of_image(entry: Entry, label_set: LabelSet) -> dict[str, dict[str, float]]:
    counts = entry.record.get("pixels", {}).get(label_set.name)
    if not counts or len(counts) != len(label_set):
        return {}
    shares = tissue_shares(np.array(counts), label_set)
    return {
        code: {
            "pixels": counts[index],
            "mm2": counts[index] * (entry.mpp or 0) ** 2 / 1e6,
            "share": shares.get(index),
        }
        for index, code in enumerate(label_set.codes)
        if counts[index]
    }


def row_of(entry: Entry, areas: Areas) -> dict[str, Any]:
    """Return an entry's row of the index: shares of classes, and IoU where the run had ground truth."""
    sets = {}
    for label_set in entry.label_sets:
        found = areas.of(entry, label_set)
        shares = {code: area["share"] for code, area in found.items() if area["share"]}
        iou = final_iou(entry.record, label_set.name)
        sets[label_set.name] = {"shares": shares, "iou": iou} if iou else {"shares": shares}
    return {
        "id": entry.id,
        "title": entry.title,
        "status": entry.status,
        "reason": entry.reason,
        "notes": list(entry.notes),
        "opens": bool(entry.label_sets or (entry.source and entry.status != "failed")),
        "width": entry.record.get("width"),
        "height": entry.record.get("height"),
        "mpp": entry.mpp,
        "sets": sets,
    }


def final_iou(record: Mapping[str, Any], name: str) -> dict[str, float] | None:
    """Return a demo image's IoU of each class, and their mean as ``""``, after the last stage; None without truth."""
    stages = record.get("iou", {}).get(name) or {}
    return [*stages.values()][-1] if stages else None
