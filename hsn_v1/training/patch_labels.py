"""Read patch labels from a table, from folder names or from file names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.images import SUFFIXES
from ..io.reading import no_folder
from ..io.tables import find_files, read_rows

#: File names that carry labels: ``x-[1 0 0 1].png``, ``x+0[1101].png``, ``x-[1, 1, 0].png``.
IN_NAME = re.compile(r"\[([^\[\]]*)\]\.[^.\[\]]+$")

#: Cells that mean "label present" and "label absent", in lower case; numbers equal to 1 and 0 do, too.
YES = frozenset({"true", "t", "yes", "y", "x", "✓", "✔", "+", "present", "positive", "wahr", "ja", "vrai", "oui"})
NO = frozenset({"false", "f", "no", "n", "-", "absent", "negative", "falsch", "nein", "faux", "non"})

#: Headers of a column of class names; only these are recognised if the table has other columns.
OF_CLASSES = frozenset({"label", "labels", "class", "classes", "category", "type", "diagnosis", "target", "tissue"})


@dataclass(frozen=True)
class PatchLabels:
    """Labels of patches, as their source states them."""

    source: Path  #: the table, or the folder whose files or folders are named by labels
    columns: tuple[str, ...]  #: the labels, in order
    cells: dict[Path, tuple[str, list[str]]]  #: by patch: place of its labels, for messages, and a cell for each column
    notes: list[str]  #: for the user

    def of(self, columns: Sequence[str]) -> np.ndarray:
        """Return which patches have the labels of `columns`: bool of shape (N, len(columns)).

        In a column without any "no", such as one of crosses, an empty cell means no. Raises InputError if a cell says
        neither yes nor no.
        """
        present = np.zeros((len(self.cells), len(columns)), bool)
        for j, column in enumerate(columns):
            i = self.columns.index(column)
            answers = [_binary(cells[i]) for _, cells in self.cells.values()]
            only_yes = False not in answers
            for row, ((where, cells), yes) in enumerate(zip(self.cells.values(), answers, strict=True)):
                if yes is None and (cells[i] or not only_yes):
                    raise InputError(f"{where}: {cells[i]!r} in column {column!r}; expected 0 or 1, or no and yes")
                present[row, j] = bool(yes)
        return present


def _binary(cell: str) -> bool | None:
    """Return True for a cell that says yes, False for no, None for anything else."""
    try:
        return {0.0: False, 1.0: True}.get(float(cell.replace(",", ".")))
    except ValueError:
        return {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}.get(cell.casefold())


def read_patch_labels(folder: Path, labels: str | None, classes: Sequence[str]) -> PatchLabels:
    """Read the labels of a folder's patches from a table, from folder names or from file names.

    `labels` is the path of a table, ``folders`` for one folder per class, or ``names`` for file names. With None, the
    order is: ``labels.csv``, folders, file names. `classes` are the classes of labels in file names, in order; empty if
    unknown. Raises InputError if there are no labels, or they cannot be used.
    """
    table = None if labels in ("names", "folders") else Path(labels) if labels else folder / "labels.csv"
    images = images_below(folder)
    if table and (labels or table.is_file()):
        return read_label_table(table, images, classes)
    if not images:
        raise InputError(
            f"{folder}: no images; expected patches and labels.csv, as `hsn-v1 patches` writes them, or patches whose "
            "folders or names carry labels, such as x-[1 0 0].png"
        )
    if labels == "folders" or (labels is None and folder not in {image.parent for image in images}):
        return read_folders(folder, images, classes)
    if not classes:
        count = next((len(labels) for image in images if (labels := labels_in_name(image.name))), 0)
        problem = f"its names carry {count} labels each" if count else "no labels.csv, and no labels in its names"
        names = " ".join(f"CLASS{i + 1}" for i in range(count or 2))
        hint = f"say what they are: `classes` {names}" if count else "give a table by `labels`"
        raise InputError(f"{folder}: {problem}; {hint}")
    return read_names(folder, classes)


def images_below(folder: Path) -> list[Path]:
    """Return the images of a folder and its subfolders, sorted; raise InputError if there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {no_folder(folder)}; it should hold the patches")
    files = (path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES["any"][0])
    return sorted(files, key=lambda path: (len(path.parts), path))


def read_label_table(table: Path, images: Sequence[Path], classes: Collection[str] = ()) -> PatchLabels:
    """Read a table of patch labels.

    The table has a header, then one row per patch: its file name, as `io.tables.find_files` matches it with `images`,
    and either a yes-or-no cell for each label, or one cell with the names of its classes. `classes` are the names that
    may stand there, if known. See `io.tables.read_rows` for the table's form.

    Raises InputError if the table cannot be read, has no label, gives two rows of an image different labels, or names
    none of the images.
    """
    rows = read_rows(table)
    (_, header), *rows = rows or [(1, [])]
    at, files = _column_of_files([row for _, row in rows], len(header), images)
    columns = tuple(header[at + 1 :])
    _check_header(table, columns, find_files(header[at : at + 1], images))
    if not rows:
        raise InputError(f"{table}: no rows below the header; expected one for each image")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{table}, line {line}: {len(row) - at - 1} labels for {len(columns)} columns; fill the row up, remove "
                "it, or put its names into quotes"
            )
    notes = _notes_on_files(table, [row[at] for _, row in rows], files, images)
    values = [row[at + 1 :] for _, row in rows]
    chosen = _column_of_classes(columns, values, classes)
    if chosen is not None:
        sets = [_names_of(row[chosen], classes) for row in values]
        name, columns = columns[chosen], tuple(dict.fromkeys([*classes, *sorted(set().union(*sets))]))
        values = [[str(int(column in present)) for column in columns] for present in sets]
        notes.append(f"{table}: column {name!r} holds names of classes: {', '.join(columns)}")
    cells: dict[Path, tuple[str, list[str]]] = {}
    for (line, row), labels in zip(rows, values, strict=True):
        if file := files.get(row[at]):
            where, earlier = cells.setdefault(file, (f"{table}, line {line}", labels))
            if chosen is not None:  # a patch may have a row for each of its classes
                earlier[:] = map(max, earlier, labels)
            elif earlier != labels:
                raise InputError(
                    f"{table}, line {line}: {file.name!r} is in {where} already, with other labels; keep one of them"
                )
    return PatchLabels(table, columns, cells, notes)


def _column_of_files(rows: list[list[str]], width: int, images: Sequence[Path]) -> tuple[int, dict[str, Path]]:
    """Return the index of the column that names the most images, and the image of each of its cells."""
    matches = [find_files((row[i] for row in rows if i < len(row)), images) for i in range(width)]
    at = max(range(width), key=lambda i: len(matches[i]), default=0)
    return at, matches[at] if matches else {}


def _check_header(table: Path, columns: tuple[str, ...], image: dict[str, Path]) -> None:
    example = "the first row should read: file name, tumour, stroma, ..."
    if not columns or not all(columns):
        raise InputError(f"{table}: no label, or one without a name; {example}")
    if image or all(_binary(column) is not None for column in columns):
        raise InputError(f"{table}: no header; {example}")
    twice = [column for i, column in enumerate(columns) if column in columns[:i]]
    if twice:
        raise InputError(f"{table}: column {twice[0]!r} comes twice; keep one")


def _notes_on_files(table: Path, names: list[str], files: dict[str, Path], images: Sequence[Path]) -> list[str]:
    """Return notes on table rows without an image and images without a row; InputError if no row has an image."""
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in files]
    if not files:
        hint = f"the images there are called such as {images[0].name!r}" if images else "there is no image"
        raise InputError(f"{table}: none of its {len(wanted)} images is there: it names {wanted[0]!r}, {hint}")
    notes = []
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        notes.append(f"left out: {table}: {len(missing)} of its {len(wanted)} images are not there: {some}")
    folders = {file.parent for file in files.values()}
    lacking = [image for image in images if image.parent in folders and image not in set(files.values())]
    if lacking:
        notes.append(f"left out: {len(lacking)} images that {table} lacks, such as {lacking[0].name}")
    return notes


def _column_of_classes(columns: tuple[str, ...], rows: list[list[str]], classes: Collection[str]) -> int | None:
    """Return the index of the column of class names, or None."""
    texts = [
        i
        for i, column in enumerate(columns)
        if column not in classes and any(_binary(row[i]) is None and re.search(r"[^\W\d]", row[i]) for row in rows)
    ]
    matching = [i for i in texts if classes and all(_names_of(row[i], classes) <= set(classes) for row in rows)]
    called = [i for i in texts if columns[i].casefold() in OF_CLASSES]
    chosen = matching or called or (texts if len(columns) == 1 else [])
    return chosen[0] if chosen else None


def _names_of(cell: str, classes: Collection[str]) -> set[str]:
    """Return the class names in a cell, one or several: ``tumour``, ``tumour;stroma``, ``['tumour', 'stroma']``."""
    if cell in classes:
        return {cell}
    parts = re.split(r"[;|,]", cell.strip("[](){}"))
    return {name for part in parts if (name := part.strip(" '\""))}


def read_names(folder: Path, classes: Sequence[str]) -> PatchLabels:
    """Read labels from file names, in the order of `classes`.

    Raises InputError if the folder is missing or has no image, or if a name has no labels or the wrong number of them.
    """
    files = [path for path in images_below(folder) if path.parent == folder]
    if not files:
        raise InputError(f"{folder}: no images; expected patches whose names carry labels, such as x-[1 0 0].png")
    cells = {}
    for path in files:
        bits = labels_in_name(path.name)
        if bits is None:
            raise InputError(f"{path}: no labels in its name, such as [1 0 0]; rename it, or give a table of labels")
        if len(bits) != len(classes):
            names = ", ".join(classes)
            raise InputError(f"{path}: {len(bits)} labels in its name for {len(classes)} classes ({names})")
        if set(bits) - set("01"):
            raise InputError(f"{path}: labels {' '.join(bits)!r} in its name; expected 0 and 1")
        cells[path] = str(path), list(bits)
    return PatchLabels(folder, tuple(classes), cells, [])


def read_folders(folder: Path, images: Sequence[Path], classes: Sequence[str]) -> PatchLabels:
    """Read labels from folder names: the class of a patch is the name of its folder inside `folder`.

    Images directly in `folder` are left out. `classes` are the first columns, even those without patches.
    """
    inner = [image for image in images if image.parent != folder]
    class_of = {image: unicodedata.normalize("NFC", image.relative_to(folder).parts[0]) for image in inner}
    if not class_of:
        raise InputError(f"{folder}: no folders of patches; expected one for each class, called like it")
    if tables := sorted(folder.glob("*/labels.csv")):
        raise InputError(
            f"{folder}: no folder of patches, but {tables[0].parent} is one: it has a labels.csv; name that"
        )
    columns = tuple(dict.fromkeys([*classes, *sorted(set(class_of.values()))]))
    cells = {image: (str(image), [str(int(column == name)) for column in columns]) for image, name in class_of.items()}
    note = f"{folder}: a folder for each class, and each patch has one: {', '.join(sorted(set(class_of.values())))}"
    return PatchLabels(folder, columns, cells, [note])


def labels_in_name(name: str) -> str | None:
    """Return the labels in a file name, such as ``100`` for ``x-[1, 0, 0].png``, or None."""
    match = IN_NAME.search(name)
    return re.sub(r"[,\s]", "", match[1]) if match else None
