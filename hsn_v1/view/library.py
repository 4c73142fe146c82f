"""Find the results of `segment` and the demos below a folder.

A *collection* is a folder of segmented slides, or a demo set; an *entry* is a slide or an image in it. An entry's
identifier is its path below the shown folder, such as ``segmented/slide.svs``. Folders are read again for each request,
so that results of a run in progress appear as they are finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.reading import no_folder
from ..io.records import RECORD, read_record
from .cache import Cache, stamp
from .entries import SUMMARY, Entry, entry_id, read_summary, results_name, set_entries, slide_entry


class OutsideError(Exception):
    """A link in the results leads out of them."""


@dataclass(frozen=True)
class Library:
    """The results below a folder."""

    root: Path  #: the folder, with links resolved
    only: str = ""  #: the only subfolder that is shown; all if empty
    records: Cache = field(default_factory=lambda: Cache(5000), compare=False)

    @classmethod
    def of(cls, folder: Path) -> Library:
        """Return the library of a folder of results, or of a single slide's results."""
        if not folder.is_dir():
            raise InputError(f"{folder}: {no_folder(folder)}; expected one that `hsn-v1 segment` or a demo wrote")
        folder = folder.resolve()
        if "input" in read_record(folder):
            return cls(folder.parent, folder.name)
        return cls(folder)

    def inside(self, path: Path) -> Path:
        """Return a path with its links resolved; raise OutsideError if it leads out of the results."""
        resolved = path.resolve()
        if not resolved.is_relative_to(self.root / self.only):
            raise OutsideError(f"{path.name}: leads outside the results")
        return resolved

    # --- Collections --------------------------------------------------------------------------------------------------

    def collections(self) -> dict[str, Path]:
        """Return the folders of segmented slides and the demo sets by name, the newest first."""
        folders = {}
        for name, folder in ((".", self.root), *self._folders(self.root)):
            record = self.record(folder)
            if record.get("kind") == "set" or (folder / SUMMARY).exists() or self._has_slides(folder, record):
                folders[name] = folder
        return dict(sorted(folders.items(), key=lambda item: -_written(item[1])))

    def record(self, folder: Path) -> dict[str, Any]:
        """Return the record of a folder's results, or of a run in progress there, as it is now; {} without one."""
        for place in (folder, folder / "work"):
            with contextlib.suppress(OSError):
                return self.records.get(stamp(place / RECORD), lambda place=place: read_record(place))
        return {}

    def _has_slides(self, folder: Path, record: dict) -> bool:
        return not record and any(slide_entry(name, child, self.record(child)) for name, child in self._folders(folder))

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
        """Return a collection's entries, sorted by name, failed ones included; raises the errors of `entry`."""
        folder = self._folder("" if collection == "." else collection)
        if (record := self.record(folder)).get("kind") == "set":
            return set_entries(collection, folder, record)
        summary = read_summary(folder)
        sources = {results_name(row): row.get("input", "") for row in summary}
        entries = {}
        for name, child in self._folders(folder):
            if entry := slide_entry(entry_id(collection, name), child, self.record(child), sources.get(name)):
                entries[name] = entry
        for row in summary if not self.only else ():
            name = results_name(row)
            if row.get("status") == "failed" and (name not in entries or entries[name].status == "stopped"):
                entry = entries.get(name) or Entry(entry_id(collection, name), name, folder / name)
                entries[name] = replace(entry, status="failed", reason=row.get("reason") or "")
        return [entries[name] for name in sorted(entries)]

    def _folder(self, below: str) -> Path:
        """Return a folder by its path below the root; raise LookupError without one, OutsideError if it leads out."""
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
        """Return an entry by its identifier; raise LookupError if there is none, OutsideError if a link leads out."""
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


def _written(folder: Path) -> float:
    times = [path.stat().st_mtime for name in (RECORD, SUMMARY) if (path := folder / name).exists()]
    return max(times, default=folder.stat().st_mtime)
