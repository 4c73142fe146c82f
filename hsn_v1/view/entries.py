"""Entries of a collection: slides and images that were segmented, are being segmented, or failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adp import LABEL_SETS
from ..errors import InputError
from ..io.locks import is_locked
from ..io.reading import line_of, read_table
from ..io.records import RECORD, label_set_of
from ..io.tree import stage_masks
from ..labels import LabelSet

SUMMARY = "segmented.csv"  #: table of all inputs that `segment` wrote

#: Errors raised while using a record that has not this program's form.
ODD_RECORD = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """A slide or image that was segmented, or that failed."""

    id: str
    title: str
    folder: Path  #: results of the slide, or of the whole demo set
    source: Path | None = None  #: path of the slide or image, if known
    record: dict[str, Any] = field(default_factory=dict)  #: its ``run.json``
    label_sets: tuple[LabelSet, ...] = ()  #: label sets with results
    image: str = ""  #: file name within a demo set; empty for results of `segment`
    status: str = "done"  #: or "in progress", "stopped", "failed"
    reason: str = ""  #: error of a failed entry, progress of an unfinished one
    notes: tuple[str, ...] = ()  #: the model's caveat first

    @property
    def mpp(self) -> float | None:
        """Microns per pixel at full resolution."""
        return _positive(self.record.get("mpp"))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width at full resolution, in px, or None if the record lacks them."""
        height, width = (_positive(self.record.get(key)) for key in ("height", "width"))
        return (int(height), int(width)) if height and width else None

    def label_set(self, name: str) -> LabelSet:
        """Return a label set by its name; raise LookupError if the entry has no such results."""
        return {label_set.name: label_set for label_set in self.label_sets}[name]


def _positive(value: Any) -> float | None:
    return value if isinstance(value, int | float) and 0 < value < math.inf else None


def entry_id(collection: str, name: str) -> str:
    """Return the identifier of a name in a collection."""
    return name if collection == "." else f"{collection}/{name}"


def results_name(row: dict[str, str]) -> str:
    """Return the name of the results folder of a row of the summary."""
    return Path(row.get("folder") or row.get("input") or "").name


def read_summary(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a folder's ``segmented.csv``, one for each input; none if there is no table yet."""
    try:
        return read_table(folder / SUMMARY)
    except InputError:
        return []


def slide_entry(identifier: str, folder: Path, record: dict[str, Any], listed: str | None = None) -> Entry | None:
    """Return the entry of a folder with results of `segment`, finished or not; None if the folder has no results.

    The record has the path of the input; for results of an earlier version, it is `listed` in the summary. An unusable
    record makes a failed entry.
    """
    if "input" in record:
        return _usable(lambda _: _slide_entry(identifier, folder, record, listed), folder.name, identifier, folder)
    if not record and (folder / RECORD).exists():
        return failed_entry(identifier, folder.name, folder, "cannot be read")
    return None


def failed_entry(identifier: str, title: str, folder: Path, problem: str) -> Entry:
    """Return the entry of an unusable record."""
    return Entry(identifier, title, folder, status="failed", reason=f"{RECORD}: {problem}; run the same command again")


def _slide_entry(identifier: str, folder: Path, record: dict[str, Any], listed: str | None) -> Entry:
    classes = record.get("classes", {})
    source = record.get("source")
    if not source:
        listed = listed or next(
            (row["input"] for row in read_summary(folder.parent) if results_name(row) == folder.name), ""
        )
        source = str(Path(listed).resolve()) if listed and Path(listed).is_file() else ""
    status, reason = ("done", "") if record.get("finished") else _progress(folder, record)
    return Entry(
        identifier,
        str(record["input"]),
        folder,
        Path(source) if source else None,
        record,
        tuple(
            label_set_of(name, classes[name]) if name in classes else LABEL_SETS[name]
            for name in map(str, record.get("label sets", ()))
            if (name in classes or name in LABEL_SETS) and (folder / name / "overview.png").exists()  # written last
        ),
        status=status,
        reason=reason,
        notes=_notes(record),
    )


def _notes(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, filter(None, (record.get("caveat"), *record.get("notes", ())))))


def _progress(folder: Path, record: dict[str, Any]) -> tuple[str, str]:
    """Return status and progress of an unfinished slide, by its lock and the files of its finished windows."""
    windows, names, done = record.get("windows"), [*map(str, record.get("label sets", ()))], ""
    if isinstance(windows, int) and windows > 0 and names:
        finished = len([*(folder / "work" / "labels" / names[-1]).glob("[0-9]*.png")])
        done = f"{100 * min(1, finished / windows):.0f} % done"
    if is_locked(folder):
        return "in progress", done
    return "stopped", f"{done}; the same command goes on from there".removeprefix("; ")


def set_entries(
    collection: str, folder: Path, record: dict[str, Any], names: Sequence[str] | None = None
) -> list[Entry]:
    """Return entries of a demo set's images, all or those in `names`: done, in progress and failed.

    Raises InputError if the set's record is unusable.
    """
    try:
        label_sets = tuple(label_set_of(name, classes) for name, classes in record.get("classes", {}).items())
        listed, images = {*record.get("files", {})}, Path(record["images"])
        failures, results = {**record.get("failures", {})}, {**record.get("results", {})}
        shared = {key: record.get(key) for key in ("mpp", "truth", "caveat")}
    except ODD_RECORD as error:
        raise InputError(f"{folder / RECORD}: not as this program writes it ({line_of(error)})") from error

    def entry(name: str) -> Entry:
        record_of_image = {**results.get(name, {}), **shared}
        finished = tuple(s for s in label_sets if stage_masks(folder, s.name, name))
        return Entry(
            entry_id(collection, name),
            name,
            folder,
            images / name,
            record_of_image,
            finished,
            name,
            "failed" if name in failures else "done" if finished else "in progress",
            str(failures.get(name, "")),
            _notes(record_of_image),
        )

    names = listed if names is None else listed.intersection(names)
    return [
        _usable(entry, name, entry_id(collection, name), folder)
        for name in sorted(names)
        if "/" not in name and name not in ("", ".", "..")
    ]


def _usable(make: Callable[[str], Entry], name: str, identifier: str, folder: Path) -> Entry:
    """Return ``make(name)``, or a failed entry if its record is unusable."""
    try:
        return make(name)
    except ODD_RECORD as error:
        return failed_entry(identifier, name, folder, f"not as this program writes it ({line_of(error)})")
