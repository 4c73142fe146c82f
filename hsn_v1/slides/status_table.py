"""What has become of the slides of a list so far: a table that is written whole at every change."""

from __future__ import annotations

import csv
import io
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..io.writing import csv_of, write_bytes
from .plan import Outcome
from .slide_list import Entry

HEADER = ("name", "status", "where", "reason", "seconds", "tiles", "notes", "path")


def this_process() -> str:
    """Return what to call the place where a slide is worked on."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def status_table(out: Path, shard: str | None) -> Path:
    """Return the table's path in a folder of results: each shard, such as 3/20, has its own."""
    return out / (f"status-{shard.replace('/', '-of-')}.csv" if shard else "status.csv")


def status_writer(
    path: Path, entries: Sequence[Entry], before: Mapping[str, Sequence[str]] | None = None
) -> Callable[[Outcome], None]:
    """Return a function that notes in the table of all entries what becomes of one; the others are waiting.

    Parameters
    ----------
    path : Path
    entries : sequence of Entry
    before : mapping of str to sequence of str, optional
        What an earlier run noted of some entries, as `HEADER` says, by their names.
    """
    own = list(dict.fromkeys(column for entry in entries for column in entry.columns))
    ends = {entry.name: [entry.columns.get(column, "") for column in own] for entry in entries}
    waiting = {entry.name: [entry.name, "waiting", *[""] * 5, str(entry.path)] for entry in entries}
    lines = {name: csv_of([[*row, *ends[name]]]) for name, row in {**waiting, **(before or {})}.items() if name in ends}
    where: dict[str, str] = {}
    lock = threading.Lock()

    def note(outcome: Outcome) -> None:
        name, facts = outcome.folder.name, outcome.facts
        with lock:
            where[name] = outcome.where or where.get(name, "")
            measured = [str(facts.get("seconds", "")), str(facts.get("tiles", "")), " ".join(outcome.notes)]
            row = [name, outcome.status, where[name], outcome.reason, *measured, waiting[name][-1], *ends[name]]
            lines[name] = csv_of([row])
            write()

    def write() -> None:
        write_bytes(path, csv_of([[*HEADER, *own]]) + b"".join(lines.values()))

    write()
    return note


def failed_before(out: Path, shard: str | None, entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, list[str]]]:
    """Return the entries that failed in an earlier run, and what was noted of all the others.

    Parameters
    ----------
    out : Path
    shard : str or None
        Goes by the table of this shard; by all tables of the folder, if None: of each entry, the newest one's word.
    entries : sequence of Entry

    Raises
    ------
    InputError
        If there is no such table, or it cannot be read.
    """
    tables = [status_table(out, shard)] if shard else sorted(out.glob("status*.csv"), key=_modified)
    names = {_as_read(entry.name): entry.name for entry in entries}
    noted: dict[str, list[str]] = {}
    for table in tables:
        try:
            with table.open(newline="", encoding="utf-8") as file:
                rows = [[row[column] for column in HEADER] for row in csv.DictReader(file)]
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
            raise InputError(f"{table}: cannot be read ({error}); run without --retry") from error
        noted |= {names[row[0]]: row for row in rows if row[0] in names}
    if not noted:
        raise InputError(
            f"{status_table(out, shard)}: no such table; --retry failed goes by what an earlier run of the list wrote "
            "there: give its --out and --shard, or run without --retry"
        )
    failed = [entry for entry in entries if entry.name in noted and noted[entry.name][1] == "failed"]
    return failed, {name: row for name, row in noted.items() if row[1] != "failed"}


def _as_read(name: str) -> str:
    """Return what a name is in a table that is read, where words that look like formulas have an apostrophe."""
    return next(csv.reader(io.StringIO(csv_of([[name, ""]]).decode(), newline="")))[0]


def _modified(path: Path) -> float:
    return path.stat().st_mtime
