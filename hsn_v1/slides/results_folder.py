"""The results folder of one input and one method, both stated in its ``run.json``.

A run works in its subfolder ``work``, and is resumed there after a kill. Only complete results move up. So a run that
is refused, fails or is killed leaves earlier results as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.locks import FILE as LOCK
from ..io.reading import has_content
from ..io.records import RECORD, check_same, difference, label_set_of, read_record
from ..io.writing import check_writable, retried, write_bytes
from ..labels import LabelSet
from .inputs import Input

#: Names of the reduced image and mask in a label set's folder, which the page shows.
IMAGE, MASK = "image.jpg", "mask.png"

#: Files of a complete label set's folder.
RESULTS = ("*.ome.tif", "*.geojson", "areas.csv", "overview.png", IMAGE, MASK)


@dataclass(frozen=True)
class Outcome:
    """The outcome of an input: its status, and facts and notes about its results."""

    source: Path  #: the slide or image
    folder: Path  #: its results folder
    status: str  #: "running", "done", "done before" or "failed"
    reason: str = ""  #: reason of the failure
    #: Kind and maps (see `plan.Plan`), height and width in px and mpp at full resolution, tiles classified, seconds.
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  #: notes for the user
    caveat: str = ""  #: the classifier's warning to everyone who sees the results
    label_sets: tuple[LabelSet, ...] = ()  #: label sets with results, with the parts that viewing needs
    columns: Mapping[str, str] = field(default_factory=dict)  #: the user's columns of the list
    where: str = ""  #: process that works on it, while it is running

    @classmethod
    def of_record(cls, folder: Path, record: Mapping[str, Any], status: str) -> Outcome:
        """Return the outcome that a folder's record states."""
        return cls(
            Path(record.get("source", record.get("input", folder.name))),
            folder,
            status,
            facts=record.get("facts", {}),
            notes=tuple(record.get("notes", ())),
            caveat=record.get("caveat", ""),
            label_sets=tuple(label_set_of(name, classes) for name, classes in record.get("classes", {}).items()),
            columns=record.get("columns", {}),
        )


def outcome_of(item: Input, out: Path, status: str, reason: str = "", where: str = "") -> Outcome:
    """Return the outcome of an input that is running, or has failed."""
    return Outcome(item.path, out / item.name, status, reason, columns=item.columns, where=where)


def this_process() -> str:
    """Name this process and its machine, for the status table."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a folder's record, ``run.json``."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # Names that are not UTF-8 become "\\udc..", which is how JSON writes them, too.
    write_bytes(folder / RECORD, text.encode(errors="backslashreplace"))


def work_of(folder: Path) -> Path:
    """Return the folder of a run's intermediate files."""
    return folder / "work"


def results_of(folder: Path) -> Path:
    """Return the folder of a run's results until they are complete."""
    return work_of(folder) / "results"


def take_up(folder: Path, facts: Mapping[str, Any], force: bool) -> dict[str, Any] | None:
    """Begin or resume a run in a folder; if its results are complete already, return their record instead.

    The results depend on nothing but `facts`. `force` begins anew, and replaces old results once the new ones are
    complete. Raises InputError if the folder has results of another run or foreign files, or cannot be written to.
    """
    work = work_of(folder)
    begun = read_record(work)
    if begun.get("complete"):  # killed while its results moved up
        publish(folder)
        begun = {}
    record = read_record(folder)
    resumed = bool(begun) and not force and not difference(begun, facts)
    if record.get("finished") and not force and not resumed:
        check_same(folder, record, facts)
        if not damage(folder):
            shutil.rmtree(work, ignore_errors=True)
            return record
    if not record and not begun and not is_ours(folder):
        raise InputError(f"{folder}: has files that are no results; move them away, or choose another folder")
    if not resumed:
        shutil.rmtree(work, ignore_errors=True)
    check_writable(work)
    for part in work.rglob(".*.part"):  # left by a run that was killed while writing
        part.unlink()
    if not resumed:
        write_record(work, facts)
    return None


def replaced_work(folder: Path, facts: Mapping[str, Any]) -> str:
    """Return a note on the unfinished work of another run that `take_up` will remove, or ""."""
    begun = read_record(work_of(folder))
    changed = difference(begun, facts) if begun and not begun.get("complete") else ""
    return f"{folder}: the unfinished work of another run ({changed}) was replaced" if changed else ""


def is_ours(folder: Path) -> bool:
    """Tell whether a folder was written by runs: it has a record, even a damaged one, or nothing but leftovers."""
    files = [path.name for path in folder.glob("*") if path.name != "work"]
    return RECORD in files or all(name.startswith((LOCK, f".{RECORD}")) for name in files)


def damage(folder: Path) -> str:
    """Return the first problem of a folder's results, or "": an unreadable record, a missing or empty file."""
    record = read_record(folder)
    if not record:
        return f"{folder / RECORD}: cannot be read" if (folder / RECORD).exists() else ""
    if not record.get("finished") or read_record(work_of(folder)).get("complete"):  # files moving up may be missing
        return ""
    for name, pattern in product(record.get("label sets", ()), RESULTS):
        path = next((folder / name).glob(pattern), folder / name / pattern)
        if not has_content(path):
            return f"{path}: is missing or empty"
    return ""


def describe_work(folder: Path, about: Mapping[str, Any]) -> None:
    """Add facts to the record of a run at work, for the viewer."""
    work = work_of(folder)
    write_record(work, {**read_record(work), **about})


def finish(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Move complete results, with their record, to their folder, and remove the intermediate files."""
    record = {**record, "finished": True}
    write_record(results_of(folder), record)
    write_record(work_of(folder), {**record, "complete": True})
    publish(folder)
    return record


def publish(folder: Path) -> None:
    """Move complete results from `work` to their folder, replacing older ones. Safe to repeat after a kill."""
    results, old = results_of(folder), read_record(folder)
    new = sorted(results.iterdir(), key=lambda path: path.name == RECORD) if results.is_dir() else []
    for path in new:  # the record last
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        retried(path.replace, folder / path.name)
    current = read_record(folder).get("label sets", [])
    for name in old.get("label sets", []):
        if name not in current:
            shutil.rmtree(folder / name, ignore_errors=True)
    shutil.rmtree(work_of(folder))


def give_up(folder: Path) -> None:
    """Remove the folder of a failed run, unless it has results, or intermediate files worth resuming."""
    work = work_of(folder)
    if {path.name for path in work.glob("*")} <= {RECORD}:
        shutil.rmtree(work, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def records(out: Path) -> dict[Path, dict[str, Any]]:
    """Return the records of all complete results in a folder, by results folder, sorted by name."""
    read = {path.parent: read_record(path.parent) for path in sorted(out.glob(f"*/{RECORD}"))}
    return {folder: record for folder, record in read.items() if record.get("finished")}
