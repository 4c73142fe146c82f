"""A cohort's list of slides: a table with a row for each, what it says of them, and what is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError

#: Columns that mean something here; all others belong to the user, and come back in the results.
COLUMNS = ("path", "name", "mpp", "labels", "model")


@dataclass(frozen=True)
class Entry:
    """A slide of a cohort.

    Attributes
    ----------
    path : Path
        Slide or image.
    name : str
        Folder of its results.
    mpp : float or None
        Microns per pixel at full resolution, where the file does not tell.
    labels, model : str or None
        Label set and classifier; None for those of the run.
    columns : mapping of str to str
        The list's other columns, such as patient and site.
    """

    path: Path
    name: str
    mpp: float | None = None
    labels: str | None = None
    model: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def read_list(table: Path) -> tuple[list[Entry], list[str]]:
    """Read a list of slides.

    Parameters
    ----------
    table : Path
        CSV with a header; the column ``path`` must be there, its paths are relative to the table's folder. Columns
        ``name``, ``mpp``, ``labels`` and ``model`` may be there or empty.

    Returns
    -------
    entries : list of Entry
        The rows that can be used.
    problems : list of str
        What is wrong with the others: one line each, which names the table's line.

    Raises
    ------
    InputError
        If it is no such table, or has no rows.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader if any(map(_text, row.values()))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a CSV of slides, with a column path") from error
    if "path" not in header:
        raise InputError(f"{table}: no column 'path'; its columns are {', '.join(header) or 'none'}")
    if not rows:
        raise InputError(f"{table}: no rows below the header; expected one for each slide")
    entries, problems, lines = [], [], {}
    for line, row in rows:
        entry, problem = _entry(Path(table).parent, row)
        if not problem and entry.name in lines:
            problem = f"the name {entry.name!r} is on line {lines[entry.name]} already; give one of them another name"
        if problem:
            problems.append(f"{table}, line {line}: {problem}")
        else:
            lines[entry.name] = line
            entries.append(entry)
    return entries, problems


def _text(cell: object) -> str:
    return cell.strip() if isinstance(cell, str) else ""


def _entry(folder: Path, row: Mapping[str, str]) -> tuple[Entry | None, str]:
    """Return what a row says, or None and what is wrong with it."""
    if None in row or None in row.values():
        return None, "more or fewer cells than the header has columns"
    path, mpp = _text(row["path"]), _text(row.get("mpp"))
    if not path:
        return None, "no path"
    file = (folder / path).absolute()
    if not file.exists():
        return None, f"{file}: no such file"
    name = _text(row.get("name")) or file.name
    if Path(name).name != name or name in (".", ".."):
        return None, f"the name {name!r} is not that of a folder"
    try:
        scale = float(mpp) if mpp else None
    except ValueError:
        scale = 0.0
    if scale is not None and not 0.05 <= scale <= 10:
        return None, f"mpp is {mpp!r}; expected microns per pixel, 0.05 to 10, such as 0.25 for a 40x objective"
    columns = {key: value for key, value in row.items() if key not in COLUMNS}
    return Entry(file, name, scale, _text(row.get("labels")) or None, _text(row.get("model")) or None, columns), ""


def shard(entries: list[Entry], number: int, count: int) -> list[Entry]:
    """Return the part of a list that one of `count` jobs takes (`number` from 1): every `count`-th, so all alike."""
    return entries[number - 1 :: count]
