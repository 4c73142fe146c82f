"""Collect facts of results for the pages, as JSON: classes with colours and areas, and an index row of each entry."""

from __future__ import annotations

from functools import lru_cache
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate import tissue_shares
from ..io.reading import line_of
from ..labels import Colour, LabelSet
from ..slide_io.label_maps import read_areas
from .cache import Cache, stamp
from .entries import ODD_RECORD, Entry, failed_entry

#: The seven colours of Okabe and Ito (2008) without black: distinct for colour-blind readers, too.
OKABE_ITO = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))

PALE = (250, 250, 250), (180, 180, 180)  #: colours of background and of other tissue

#: Matrices that simulate vision without red and without green cones in linear RGB: Machado et al. (2009), severity 1.
BLIND = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)

XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  #: from linear RGB


def classes_of(label_set: LabelSet) -> list[dict[str, Any]]:
    """Return code, name and colours of each class, in the order of class indices."""
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
    """Return pixels, mm2 and share of the tissue by class code, for classes that occur, from the run's tables."""
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
    """Return the facts of an entry that all pages show."""
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
    """Return an entry's row in the index: shares of classes, and IoU if the run had ground truth."""
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
    return {"shares": shares, "iou": iou | {"": iou[""]}}  # "" is the mean over classes; KeyError without one


# --- Colours for readers with red-green colour blindness, in place of the published ones ------------------------------


def safe_colours(label_set: LabelSet) -> dict[str, Colour]:
    """Return a colour-blind safe colour for each class; background and other tissue are pale.

    A kind are the classes whose codes have the same letters before the first dot. The most distinct colours go to the
    first class of each kind, the next to the second of each, and so on.
    """
    pale = {label_set.background: PALE[0], label_set.other: PALE[1]}
    kinds: dict[str, list[str]] = {}
    for code in label_set.codes:
        if code not in pale:
            kinds.setdefault(code.partition(".")[0], []).append(code)
    codes = [code for nth in zip_longest(*kinds.values()) for code in nth if code is not None]
    colours = {**pale, **dict(zip(codes, distinct(len(codes)), strict=True))}
    return {code: colours[code] for code in label_set.codes}


@lru_cache(maxsize=16)
def distinct(count: int) -> tuple[Colour, ...]:
    """Return distinct colours: first Okabe and Ito's, then each as far as possible from those before it.

    Distance is that of `differences`. With many classes, the later colours are close to one another for any reader.
    """
    grid = np.array(list(product(range(0, 256, 51), repeat=3)))
    chosen = np.array([*PALE, *OKABE_ITO])
    distance = np.min([differences(grid, colour) for colour in chosen], axis=0)
    while len(chosen) < count + len(PALE):
        best = int(distance.argmax())
        chosen = np.vstack([chosen, grid[best]])
        distance = np.minimum(distance, differences(grid, grid[best]))
    return tuple(tuple(colour) for colour in chosen[len(PALE) : len(PALE) + count].tolist())


def differences(colours: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return CIELAB distances of colours (N, 3) from a colour: the least over normal and colour-blind readers."""
    return np.linalg.norm(_seen(colours) - _seen(np.asarray(colour)[None]), axis=-1).min(axis=0)


def _seen(colours: np.ndarray) -> np.ndarray:  # (readers, N, 3) in CIELAB
    from skimage.color import xyz2lab  # here, as most of this package needs no scikit-image

    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    readers = np.stack([linear, *(np.clip(linear @ blind.T, 0, 1) for blind in BLIND)])
    return xyz2lab(readers @ XYZ.T)
