"""A folder of results belongs to one input and method, which its ``run.json`` states.

A run works in the folder ``work`` in it, where it is resumed after it was killed. Only what is complete moves up, so
that a run that is refused, fails or is killed leaves the results of an earlier one as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.locks import FILE as CLAIM
from ..io.reading import has_content
from ..io.run_json import RECORD, read_record
from ..io.writing import check_writable, retried, write_bytes

#: What a label set's folder holds when it is complete.
RESULTS = ("*.ome.tif", "*.geojson", "areas.csv", "overview.png", "image.jpg", "mask.png")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a folder's record."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # Names that are not UTF-8 become "\\udc..", which is how JSON writes them, too.
    write_bytes(folder / RECORD, text.encode(errors="backslashreplace"))


def results_of(folder: Path) -> Path:
    """Return where a run puts its results until they are complete."""
    return folder / "work" / "results"


def claim(folder: Path, run: Mapping[str, Any], force: bool) -> dict[str, Any] | None:
    """Take a folder for a run; return the record of the results if it has them already, and undamaged.

    Parameters
    ----------
    folder : Path
    run : mapping
        All that the results depend on, as JSON can hold it.
    force : bool
        Begin anew, and replace results that are there once the new ones are complete.

    Raises
    ------
    InputError
        If the folder has results of another run, or files of no run, or cannot be written to.
    """
    work = folder / "work"
    begun = read_record(work)
    if begun.get("complete"):  # killed while its results moved up
        publish(folder)
        begun = {}
    known = read_record(folder)
    resumed = bool(begun) and not force and not _changed(begun, run)
    if known.get("finished") and not force and not resumed:
        changed = _changed(known, run)
        if changed:
            raise InputError(
                f"{folder}: holds results of another run ({changed}: {known.get(changed)}, now {run[changed]}); "
                "give --force to replace them, or another --out"
            )
        if not damage(folder):
            shutil.rmtree(work, ignore_errors=True)
            return known
    if not known and not begun and not is_ours(folder):
        raise InputError(f"{folder}: has files that are no results; move them away, or choose another --out")
    if not resumed:
        shutil.rmtree(work, ignore_errors=True)
    check_writable(work)
    for part in work.rglob(".*.part"):  # of a run that was killed while it wrote
        part.unlink()
    if not resumed:
        write_record(work, run)
    return None


def is_ours(folder: Path) -> bool:
    """Tell whether a folder has nothing but what runs write: a record, if only a damaged one, or leftovers."""
    if (folder / RECORD).exists():
        return True
    return all(path.name == "work" or path.name.startswith((CLAIM, f".{RECORD}")) for path in folder.glob("*"))


def damage(folder: Path) -> str:
    """Return what is wrong with a folder's results, or nothing: a record that cannot be read, files that are missing.

    Contents of other files are not read.
    """
    known = read_record(folder)
    if not known:
        return f"{folder / RECORD}: cannot be read" if (folder / RECORD).exists() else ""
    if not known.get("finished") or read_record(folder / "work").get("complete"):  # what moves up now may be missing
        return ""
    missing = [path for name in known.get("label sets", ()) for path in _missing(folder / name)]
    return f"{missing[0]}: is missing or empty" if missing else ""


def _missing(folder: Path) -> list[Path]:
    """Return what a label set's results lack, of the files that each has."""
    found = [next(iter(folder.glob(pattern)), folder / pattern) for pattern in RESULTS]
    return [path for path in found if not has_content(path)]


def describe_work(folder: Path, about: Mapping[str, Any]) -> None:
    """Tell in the record of a run at work what those who look on should know of it."""
    work = folder / "work"
    write_record(work, {**read_record(work), **about})


def _changed(known: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Return the first thing in which a record differs from a run, or nothing."""
    return next((key for key in run if known.get(key) != run[key]), "")


def finish(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Put complete results in their place, with their record, and remove the intermediate files."""
    record = {**record, "finished": True}
    write_record(results_of(folder), record)
    write_record(folder / "work", {**record, "complete": True})
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
    shutil.rmtree(folder / "work")


def give_up(folder: Path) -> None:
    """Remove a folder that a run claimed and left without anything worth resuming."""
    work = folder / "work"
    if {path.name for path in work.glob("*")} <= {RECORD}:
        shutil.rmtree(work, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def records(out: Path) -> dict[Path, dict[str, Any]]:
    """Return the records of all complete results in a folder, by their folders, in order of their names."""
    found = {path.parent: read_record(path.parent) for path in sorted(out.glob(f"*/{RECORD}"))}
    return {folder: record for folder, record in found.items() if record.get("finished")}
