"""Patch labels: from a table, or from the names of the files."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError

#: File names that carry labels: ``x-[1 0 0 1].png``, ``x+0[1101].png``, ``x-[1, 1, 0].png``.
IN_NAME = re.compile(r"\[([^\[\]]*)\]\.[^.\[\]]+$")

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})

_BINARY = {"0": False, "0.0": False, "1": True, "1.0": True}


@dataclass(frozen=True)
class PatchLabels:
    """Which classes each patch contains.

    Attributes
    ----------
    source : Path
        The table, or the folder whose file names carry the labels.
    columns : tuple of str
        What the labels are called, in order.
    cells : dict of str to (str, list of str)
        By the patch's file name: where it stands, for messages, and what each column holds.
    """

    source: Path
    columns: tuple[str, ...]
    cells: dict[str, tuple[str, list[str]]]

    def of(self, columns: Sequence[str]) -> np.ndarray:
        """Return whether each patch has each of some columns' labels: bool of shape (N, len(columns)).

        Raises
        ------
        InputError
            If a cell is neither 0 nor 1.
        """
        at = [self.columns.index(column) for column in columns]
        for where, cells in self.cells.values():
            for i in at:
                if cells[i] not in _BINARY:
                    raise InputError(f"{where}: {cells[i]!r} in column {self.columns[i]!r}; expected 0 or 1")
        return np.array([[_BINARY[cells[i]] for i in at] for _, cells in self.cells.values()], bool)


def read_table(table: Path) -> PatchLabels:
    """Read a table of patch labels: a header, then a file name and one cell for each column.

    Raises
    ------
    InputError
        If the table cannot be read, has no label, or names an image or a label twice.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            header, *rows = [(line, row) for line, row in enumerate(csv.reader(file), 1) if any(row)] or [(1, [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a CSV of patch labels") from error
    columns = tuple(cell.strip() for cell in header[1][1:])
    if not columns or not all(columns):
        raise InputError(f"{table}: no label, or one without a name; the first row should read: file name, tumour, ...")
    if all(column in _BINARY for column in columns):
        raise InputError(f"{table}: no header; the first row should read: file name, tumour, stroma, ...")
    twice = [column for i, column in enumerate(columns) if column in columns[:i]]
    if twice:
        raise InputError(f"{table}: column {twice[0]!r} comes twice; keep one")
    if not rows:
        raise InputError(f"{table}: no rows below the header; expected one for each image")
    cells: dict[str, tuple[str, list[str]]] = {}
    for line, row in rows:
        name, where = row[0].strip(), f"{table}, line {line}"
        if len(row) != len(header[1]):
            raise InputError(
                f"{where}: {len(row) - 1} labels for {len(columns)} columns; fill the row up, or remove it"
            )
        if name in cells:
            raise InputError(f"{where}: {name!r} is in {cells[name][0]} already; keep one of the rows")
        cells[name] = where, [cell.strip() for cell in row[1:]]
    return PatchLabels(table, columns, cells)


def read_names(folder: Path, classes: Sequence[str]) -> PatchLabels:
    """Read the labels that file names carry, in the order of the classes.

    Raises
    ------
    InputError
        If there is no such folder or image, or a name without labels or with another number of them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the patches")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not names:
        raise InputError(f"{folder}: no images; expected patches whose names carry labels, such as x-[1 0 0].png")
    cells = {}
    for name in names:
        found = IN_NAME.search(name)
        bits = re.sub(r"[,\s]", "", found[1]) if found else ""
        where = f"{folder / name}"
        if not found:
            raise InputError(f"{where}: no labels in its name, such as [1 0 0]; rename it, or give a table by --labels")
        if len(bits) != len(classes):
            raise InputError(
                f"{where}: {len(bits)} labels in its name for {len(classes)} classes ({', '.join(classes)})"
            )
        if set(bits) - set("01"):
            raise InputError(f"{where}: labels {found[1]!r} in its name; expected 0 and 1")
        cells[name] = where, list(bits)
    return PatchLabels(folder, tuple(classes), cells)


def labels_per_name(folder: Path) -> int:
    """Return how many labels the first name of a folder's images carries; 0 if none."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = IN_NAME.search(path.name)
        if found:
            return len(re.sub(r"[,\s]", "", found[1]))
    return 0
