"""A folder of results belongs to one input and method, which its ``run.json`` states.

A run works in the folder ``work`` in it, where it is resumed after it was killed. Only what is complete moves up, so
that a run that is refused, fails or is killed leaves the results of an earlier one as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.locks import FILE as LOCK
from ..io.reading import has_content
from ..io.records import RECORD, difference, label_set_of, read_record
from ..io.writing import check_writable, retried, write_bytes
from ..labels import LabelSet

#: Reduced image and mask of each label set, in its folder, which the page shows.
IMAGE, MASK = "image.jpg", "mask.png"

#: What a label set's folder holds when it is complete.
RESULTS = ("*.ome.tif", "*.geojson", "areas.csv", "overview.png", IMAGE, MASK)


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    source: Path  #: what was segmented
    folder: Path  #: of its results
    status: str  #: "running", "done", "done before" or "failed"
    reason: str = ""  #: why it failed
    #: Kind and maps (see `plan.Plan`), height and width in px and mpp at full resolution, tiles classified, seconds.
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  #: what the user should know
    caveat: str = ""  #: what everyone who sees the results must know
    label_sets: tuple[LabelSet, ...] = ()  #: those that there are results of, as far as looking at them needs it
    columns: Mapping[str, str] = field(default_factory=dict)  #: what the user's list says of it
    where: str = ""  #: which process works on it, while it is running

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


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a folder's record."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # Names that are not UTF-8 become "\\udc..", which is how JSON writes them, too.
    write_bytes(folder / RECORD, text.encode(errors="backslashreplace"))


def work_of(folder: Path) -> Path:
    """Return where a run keeps its intermediate files."""
    return folder / "work"


def results_of(folder: Path) -> Path:
    """Return where a run puts its results until they are complete."""
    return work_of(folder) / "results"


def take_up(folder: Path, facts: Mapping[str, Any], force: bool) -> dict[str, Any] | None:
    """Begin a run in a folder, or go on where it was killed; where its results are there, return their record.

    `facts` are all that the results depend on. By force a run begins anew, and replaces results once its own are
    complete. Raises InputError if the folder has results of another run, or files of no run, or cannot be written to.
    """
    work = work_of(folder)
    begun = read_record(work)
    if begun.get("complete"):  # killed while its results moved up
        publish(folder)
        begun = {}
    record = read_record(folder)
    resumed = bool(begun) and not force and not difference(begun, facts)
    if record.get("finished") and not force and not resumed:
        if changed := difference(record, facts):
            raise InputError(
                f"{folder}: holds results of another run ({changed}); replace them by `force`, or choose another folder"
            )
        if not damage(folder):
            shutil.rmtree(work, ignore_errors=True)
            return record
    if not record and not begun and not is_ours(folder):
        raise InputError(f"{folder}: has files that are no results; move them away, or choose another folder")
    if not resumed:
        shutil.rmtree(work, ignore_errors=True)
    check_writable(work)
    for part in work.rglob(".*.part"):  # of a run that was killed while it wrote
        part.unlink()
    if not resumed:
        write_record(work, facts)
    return None


def is_ours(folder: Path) -> bool:
    """Tell whether a folder has nothing but what runs write: a record, if only a damaged one, or leftovers."""
    files = [path.name for path in folder.glob("*") if path.name != "work"]
    return RECORD in files or all(name.startswith((LOCK, f".{RECORD}")) for name in files)


def damage(folder: Path) -> str:
    """Return what is wrong with a folder's results, or "": a record that cannot be read, files missing or empty."""
    record = read_record(folder)
    if not record:
        return f"{folder / RECORD}: cannot be read" if (folder / RECORD).exists() else ""
    if not record.get("finished") or read_record(work_of(folder)).get("complete"):  # what moves up now may be missing
        return ""
    for name, pattern in product(record.get("label sets", ()), RESULTS):
        path = next((folder / name).glob(pattern), folder / name / pattern)
        if not has_content(path):
            return f"{path}: is missing or empty"
    return ""


def describe_work(folder: Path, about: Mapping[str, Any]) -> None:
    """Add facts to the record of a run at work, for those who look on."""
    work = work_of(folder)
    write_record(work, {**read_record(work), **about})


def finish(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Put complete results in their place, with their record, and remove the intermediate files."""
    record = {**record, "finished": True}
    write_record(results_of(folder), record)
    write_record(work_of(folder), {**record, "complete": True})
    publish(folder)
    return record


def publish(folder: Path) -> None:
    """Move complete results up, in place of those of before; what a killed call left undone, the next one does."""
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
    """Remove a folder that a run leaves without anything worth resuming."""
    work = work_of(folder)
    if {path.name for path in work.glob("*")} <= {RECORD}:
        shutil.rmtree(work, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def records(out: Path) -> dict[Path, dict[str, Any]]:
    """Return the records of all complete results in a folder, by their folders, in order of their names."""
    read = {path.parent: read_record(path.parent) for path in sorted(out.glob(f"*/{RECORD}"))}
    return {folder: record for folder, record in read.items() if record.get("finished")}
