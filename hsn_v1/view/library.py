"""What there is to look at: the results that `segment` and the demos wrote below a folder.

A *collection* is a folder of segmented slides, or a demo set; an *entry* is a slide or an image in it. Entries have
identifiers such as ``segmented/slide.svs``, paths below the folder that is shown. Folders are read again whenever they
are asked for, so that a run in progress shows what is finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..adp import LABEL_SETS
from ..errors import InputError
from ..io.locks import is_locked
from ..io.reading import read_table
from ..io.run_json import RECORD, label_set_of, read_record
from ..labels import LabelSet
from .cache import Cache, stamp

SUMMARY = "segmented.csv"  #: table of all inputs that `segment` wrote


@dataclass(frozen=True)
class Entry:
    """A slide or image that was segmented, or that failed.

    Attributes
    ----------
    id, title : str
    folder : Path
        Its results, or those of its demo set.
    source : Path or None
        The slide or image itself, where that is known.
    record : mapping
        What its ``run.json`` says.
    label_sets : tuple of LabelSet
        Those of which there are results.
    image : str
        File name within a demo set; empty for what `segment` wrote.
    status : {"done", "in progress", "stopped", "failed"}
    reason : str
        Why it failed, or how much of it is done.
    notes : tuple of str
    """

    id: str
    title: str
    folder: Path
    source: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    label_sets: tuple[LabelSet, ...] = ()
    image: str = ""
    status: str = "done"
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def mpp(self) -> float | None:
        """Microns per pixel at full resolution."""
        value = self.record.get("mpp")
        return float(value) if isinstance(value, int | float) and value > 0 else None

    def label_set(self, name: str) -> LabelSet:
        """Return a label set by its name, or raise LookupError."""
        return next((one for one in self.label_sets if one.name == name), None) or _missing(name)


def _missing(name: str):
    raise LookupError(name)


class OutsideError(Exception):
    """A link in the results leads to what is no part of them."""


@dataclass(frozen=True)
class Library:
    """The results below a folder.

    Attributes
    ----------
    root : Path
        Resolved.
    only : str
        Name of the only folder in it that is shown; all, if empty.
    """

    root: Path
    only: str = ""
    records: Cache = field(default_factory=lambda: Cache(5000), compare=False)

    @classmethod
    def of(cls, folder: Path) -> Library:
        """Return the library of a folder of results, or of a single slide's results."""
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected one that `hsn-v1 segment` or a demo wrote")
        folder = folder.resolve()
        if "input" in read_record(folder):
            return cls(folder.parent, folder.name)
        return cls(folder)

    def inside(self, path: Path) -> Path:
        """Return a path of the results with its links resolved, or raise OutsideError if it leads out of them."""
        resolved = path.resolve()
        if not resolved.is_relative_to(self.root / self.only):
            raise OutsideError(f"{path.name}: leads outside the results")
        return resolved

    # --- Collections --------------------------------------------------------------------------------------------------

    def collections(self) -> dict[str, Path]:
        """Return the folders of slides and the demo sets by their names, the newest first."""
        found = {}
        for name, folder in ((".", self.root), *self._folders(self.root)):
            record = self.record(folder)
            if record.get("kind") == "set" or (folder / SUMMARY).exists() or self._has_slides(folder, record):
                found[name] = folder
        return dict(sorted(found.items(), key=lambda item: -_written(item[1])))

    def record(self, folder: Path) -> dict[str, Any]:
        """Return a folder's record, of results or else of the run that is at work there; read again when it changes."""
        for place in (folder, folder / "work"):
            with contextlib.suppress(OSError):
                return self.records.get(stamp(place / RECORD), lambda place=place: read_record(place))
        return {}

    def _has_slides(self, folder: Path, record: dict) -> bool:
        return not record and any("input" in self.record(child) for _, child in self._folders(folder))

    def _folders(self, folder: Path) -> Iterator[tuple[str, Path]]:
        try:
            children = sorted(folder.iterdir())
        except OSError:
            return
        for child in children:
            wanted = not self.only or folder != self.root or child.name == self.only
            if wanted and not child.name.startswith(".") and child.is_dir() and self._is_inside(child):
                yield child.name, child

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root / self.only)

    def entries(self, collection: str) -> list[Entry]:
        """Return a collection's entries in the order of their names, failures included.

        Raises
        ------
        LookupError
            If there is no such collection.
        OutsideError
            If it is a link that leads elsewhere.
        """
        folder = self._folder("" if collection == "." else collection)
        if (record := self.record(folder)).get("kind") == "set":
            return set_entries(collection, folder, record, [*record.get("files", ())])
        summary = read_summary(folder)
        sources = {_name(row): row.get("input", "") for row in summary}
        found = {}
        for name, child in self._folders(folder):
            if entry := slide_entry(_id(collection, name), child, self.record(child), sources.get(name)):
                found[name] = entry
        for row in summary if not self.only else ():
            name = _name(row)
            if row.get("status") == "failed" and (name not in found or found[name].status == "stopped"):
                entry = found.get(name) or Entry(_id(collection, name), name, folder / name)
                found[name] = replace(entry, status="failed", reason=row.get("reason", ""))
        return [found[name] for name in sorted(found)]

    def _folder(self, below: str) -> Path:
        """Return a folder by its path below the root; LookupError if there is none, OutsideError if it leads out."""
        parts = below.split("/") if below else []
        if any(part in ("", ".", "..") or {"\\", "\0"} & {*part} for part in parts) or len(parts) > 2:
            raise LookupError(below)
        folder = self.root.joinpath(*parts)
        if not folder.is_dir():
            raise LookupError(below)
        if parts and not self._is_inside(folder):
            raise OutsideError(f"{below}: leads outside the results")
        return folder

    def entry(self, identifier: str) -> Entry:
        """Return the entry of an identifier; LookupError if there is none, OutsideError if a link leads out."""
        if not identifier:
            raise LookupError(identifier)
        parent, _, name = identifier.rpartition("/")
        collection = self._folder(parent)
        if (record := self.record(collection)).get("kind") == "set":
            for entry in set_entries(parent or ".", collection, record, [name]):
                return entry
        folder = self._folder(identifier)
        if entry := slide_entry(identifier, folder, self.record(folder)):
            return entry
        raise LookupError(identifier)


def _name(row: dict[str, str]) -> str:
    """Return the name of the results folder that a row of the summary is about."""
    return Path(row.get("folder") or row.get("input") or "").name


def _id(collection: str, name: str) -> str:
    return name if collection == "." else f"{collection}/{name}"


def _written(folder: Path) -> float:
    times = [path.stat().st_mtime for name in (RECORD, SUMMARY) if (path := folder / name).exists()]
    return max(times, default=folder.stat().st_mtime)


def read_summary(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table that `segment` writes of all inputs; none if there is no table yet."""
    try:
        return read_table(folder / SUMMARY)
    except InputError:
        return []


# --- Entries ----------------------------------------------------------------------------------------------------------


def slide_entry(identifier: str, folder: Path, record: dict[str, Any], listed: str | None = None) -> Entry | None:
    """Return what `segment` wrote to a folder, as far as it is finished; None if that is nothing.

    Where the input lay is in the record; of results of an earlier version, it is `listed` in the summary.
    """
    if "input" not in record:
        return None
    known = record.get("classes", {})
    source = record.get("source")
    if not source:
        listed = listed or next((row["input"] for row in read_summary(folder.parent) if _name(row) == folder.name), "")
        source = str(Path(listed).resolve()) if listed and Path(listed).is_file() else ""
    status, reason = ("done", "") if record.get("finished") else _progress(folder, record)
    return Entry(
        identifier,
        str(record["input"]),
        folder,
        Path(source) if source else None,
        record,
        tuple(
            label_set_of(name, known[name]) if name in known else LABEL_SETS[name]
            for name in map(str, record.get("label sets", ()))
            if (name in known or name in LABEL_SETS) and (folder / name / "overview.png").exists()  # the last to come
        ),
        status=status,
        reason=reason,
        notes=_notes(record),
    )


def _progress(folder: Path, record: dict[str, Any]) -> tuple[str, str]:
    """Return whether a slide that is not finished is at work, and how much of it is done, by the windows' files."""
    windows, names, done = record.get("windows"), [*map(str, record.get("label sets", ()))], ""
    if isinstance(windows, int) and windows > 0 and names:
        finished = len([*(folder / "work" / "labels" / names[-1]).glob("[0-9]*.png")])
        done = f"{100 * min(1, finished / windows):.0f} % done"
    if is_locked(folder):
        return "in progress", done
    return "stopped", f"{done}; the same command goes on from there".removeprefix("; ")


def _notes(record: dict[str, Any]) -> tuple[str, ...]:
    """Return what must be known of results, and then what should be."""
    return tuple(map(str, filter(None, (record.get("caveat"), *record.get("notes", ())))))


def set_entries(collection: str, folder: Path, record: dict[str, Any], names: Sequence[str]) -> list[Entry]:
    """Return those images of a demo set that have the given names: segmented, to be segmented, and failed."""
    label_sets = tuple(label_set_of(name, known) for name, known in record.get("classes", {}).items())
    listed, results, failures = (record.get(key, {}) for key in ("files", "results", "failures"))
    entries = []
    for name in names:
        if name not in listed or "/" in name or name in ("", ".", ".."):
            continue
        facts = results.get(name, {})
        finished = tuple(s for s in label_sets if stage_files(folder, s.name, name))
        entries.append(
            Entry(
                _id(collection, name),
                name,
                folder,
                Path(record["images"]) / name,
                {**facts, "mpp": record.get("mpp"), "truth": record.get("truth")},
                finished,
                name,
                "failed" if name in failures else "done" if finished else "in progress",
                failures.get(name, ""),
                _notes({"caveat": record.get("caveat"), **facts}),
            )
        )
    return sorted(entries, key=lambda entry: entry.title)


def stage_files(folder: Path, name: str, image: str) -> dict[str, Path]:
    """Return the masks that a demo wrote of an image and label set, by stage, the last stage first."""
    file = image if image.lower().endswith(".png") else f"{image}.png"
    paths = {stage: folder / name / f"ablative_{stage}" / file for stage in ("CRF", "Adjust", "GradCAM")}
    return {stage: path for stage, path in paths.items() if path.is_file()}
