"""What has become of the slides of a list so far: a table that is written whole at every change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ..files.writing import write_table
from .method import Outcome
from .slide_list import Entry

HEADER = ("name", "status", "reason", "seconds", "tiles", "notes", "path")


def status_writer(path: Path, entries: Sequence[Entry]) -> Callable[[Outcome], None]:
    """Return a function that notes an outcome in the table of all entries; the others are waiting.

    Parameters
    ----------
    path : Path
    entries : sequence of Entry
    """
    found: dict[str, Outcome] = {}
    lock = threading.Lock()
    own = list(dict.fromkeys(column for entry in entries for column in entry.columns))

    def row(entry: Entry) -> list[str]:
        one = found.get(entry.name)
        facts = one.facts if one else {}
        told = [one.status, one.reason] if one else ["waiting", ""]
        measured = [str(facts.get("seconds", "")), str(facts.get("tiles", "")), " ".join(one.notes) if one else ""]
        return [entry.name, *told, *measured, str(entry.path), *(entry.columns.get(column, "") for column in own)]

    def note(outcome: Outcome) -> None:
        with lock:
            found[outcome.folder.name] = outcome
            write_table(path, [[*HEADER, *own], *map(row, entries)])

    write_table(path, [[*HEADER, *own], *map(row, entries)])
    return note
