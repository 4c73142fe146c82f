"""Which classes a set of patch labels speaks of: those of a file of classes, or new ones."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..labels import Taxonomy
from .patch_labels import PatchLabels, labels_per_name, read_names, read_table

#: Fewer patches with a class, or without it, teach little.
FEW = 50


def read_labels(folder: Path, labels: str | None, codes: Sequence[str]) -> PatchLabels:
    """Read the labels of a folder's patches: of a table, of its ``labels.csv``, or else of its file names.

    Parameters
    ----------
    folder : Path
    labels : str or None
        Path of a table, or ``names``.
    codes : sequence of str
        Classes in the order of the labels in file names; empty if they are not known.
    """
    table = None if labels == "names" else Path(labels) if labels else folder / "labels.csv"
    if table and (labels or table.is_file()):
        return read_table(table)
    if not codes:
        count = labels_per_name(folder)
        found = f"its names carry {count} labels each" if count else "no labels.csv, and no labels in its names"
        names = " ".join(f"CLASS{i + 1}" for i in range(count or 2))
        hint = f"say what they are: --classes {names}" if count else "give a table by --labels CSV"
        raise InputError(f"{folder}: {found}; {hint}")
    return read_names(folder, codes)


def match_columns(
    labels: PatchLabels, classes: Sequence[str], known: Taxonomy | None, known_from: str, published: Taxonomy
) -> tuple[Taxonomy | None, tuple[str, ...], list[str]]:
    """Decide what the labels' columns are.

    Parameters
    ----------
    labels : PatchLabels
    classes : sequence of str
        What the user calls the classes; empty if not said.
    known : Taxonomy or None
        Of the model's file of classes, if there is one.
    known_from : str
        Where it is from.
    published : Taxonomy
        Whose codes a table may have without saying so: ADP's.

    Returns
    -------
    taxonomy : Taxonomy or None
        None if the columns are new classes.
    columns : tuple of str
        Those that count.
    notes : list of str
        What the user may not expect.

    Raises
    ------
    InputError
        If it cannot be decided.
    """
    columns = labels.columns
    if known:
        if classes and tuple(classes) != known.codes:
            raise InputError(
                f"--classes {' '.join(classes)}: {known_from} has {', '.join(known.codes)}; leave --classes out, or "
                "give another --name"
            )
        return known, *_known_columns(labels, known, known_from)
    if classes:
        missing = [name for name in classes if name not in columns]
        if missing:
            raise InputError(f"{labels.source}: no column {missing[0]!r}; it has {', '.join(columns)}")
        unused = [name for name in columns if name not in classes]
        return None, tuple(classes), [f"columns that are left out: {', '.join(unused)}"] if unused else []
    codes = [name for name in columns if name in published.outputs or name in published.vague]
    if not codes:
        return None, columns, []
    if len(codes) < len(columns):
        others = [name for name in columns if name not in codes]
        raise InputError(
            f"{labels.source}: {', '.join(codes[:5])} are classes of the Atlas of Digital Pathology, and "
            f"{others[0]!r} is not{_hint(others[0], published)}; for classes of your own, name the columns that count: "
            f"--classes {' '.join(columns[:3])} ...; for the atlas's, remove the others"
        )
    meanings = ", ".join(f"{code} {published.outputs[code]}" for code in codes if code in published.outputs)
    notes = [
        f"all columns are taken for classes of the Atlas of Digital Pathology: {meanings}. If they mean something "
        f"else, say so by --classes {' '.join(columns[:3])}{' ...' if len(columns) > 3 else ''}"
    ]
    return published, *_with_notes(_known_columns(labels, published, "adp.toml"), notes)


def _with_notes(found: tuple[tuple[str, ...], list[str]], notes: list[str]) -> tuple[tuple[str, ...], list[str]]:
    return found[0], notes + found[1]


def _known_columns(labels: PatchLabels, known: Taxonomy, known_from: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns that a taxonomy knows, and notes on the others."""
    columns = tuple(name for name in labels.columns if name in known.outputs or name in known.vague)
    if not columns:
        raise InputError(
            f"{labels.source}: no column is a class of {known_from}; it has {', '.join(labels.columns[:6])}, expected "
            f"some of {', '.join(known.codes[:6])}"
        )
    notes = [
        f"{labels.source}: column {name!r} is no class of {known_from} and is left out{_hint(name, known)}"
        for name in labels.columns
        if name not in columns
    ]
    vague = [name for name in columns if name not in known.outputs]
    if vague:
        notes.append(f"{', '.join(vague)} have no output of their own; they count for their parents")
    return columns, notes


def _hint(column: str, known: Taxonomy) -> str:
    close = get_close_matches(column, known.outputs, 1)
    return f" (do you mean {close[0]}?)" if close else ""


def targets_of(present: np.ndarray, columns: Sequence[str], taxonomy: Taxonomy) -> np.ndarray:
    """Return 1 for the outputs of the labels that are present and for their parents, else 0.

    Parameters
    ----------
    present : ndarray of shape (N, len(columns)), bool
    columns : sequence of str
    taxonomy : Taxonomy
        With K outputs.

    Returns
    -------
    ndarray of shape (N, K), float32
    """
    implied = np.zeros((len(columns), len(taxonomy.outputs)), np.float32)
    for row, column in zip(implied, columns, strict=True):
        row[taxonomy.with_parents([column])] = 1
    return np.minimum(present.astype(np.float32) @ implied, 1)


def describe_classes(taxonomy: Taxonomy, train: np.ndarray, validation: np.ndarray) -> list[str]:
    """Return a line for each class that occurs: how many patches have it, of those to train on and to validate on.

    Parameters
    ----------
    taxonomy : Taxonomy
    train, validation : ndarray of shape (N, K), 0 or 1
    """
    lines = [f"{len(train)} patches to train on, {len(validation)} to validate on; of these have"]
    width = max(len(code) for code in taxonomy.outputs)
    for i, (code, name) in enumerate(taxonomy.outputs.items()):
        if train[:, i].any() or validation[:, i].any():
            words = "" if name == code else f"  {name}"
            lines.append(f"  {code:{width}} {train[:, i].sum():7.0f} {validation[:, i].sum():7.0f}{words}")
    return lines


def check_classes(taxonomy: Taxonomy, train: np.ndarray, validation: np.ndarray) -> list[str]:
    """Return warnings of classes that cannot be learned or judged, each by its name.

    Raises
    ------
    InputError
        If no class can be judged: in the validation patches, none is in some and not in all.
    """
    notes, absent = [], []
    for i, code in enumerate(taxonomy.codes):
        having, lacking = train[:, i].sum(), (1 - train[:, i]).sum()
        judged = 0 < validation[:, i].sum() < len(validation)
        if not having and not validation[:, i].any():
            absent.append(code)
        elif not having or not lacking:
            notes.append(f"{code}: {'no' if not having else 'every'} patch to train on has it; it cannot be learned")
        elif not judged:
            missing = not validation[:, i].any()
            which, so = ("no", "is 1: it can never be found") if missing else ("every", "means little")
            notes.append(f"{code}: {which} validation patch has it; it is in no figure, and its threshold {so}")
        elif min(having, lacking) < FEW:
            which = "have" if having < lacking else "lack"
            notes.append(f"{code}: only {min(having, lacking):.0f} patches to train on {which} it")
    if absent:
        names = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        notes.append(f"in no patch at all, and therefore never found: {names}")
    if not any(0 < column.sum() < len(validation) for column in validation.T):
        raise InputError(
            "no class is in some validation patches and lacking in others: none can be judged; give more patches to "
            "--validation, or patches that lack classes, such as smaller ones"
        )
    return notes
