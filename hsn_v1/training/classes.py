"""Match patch labels with a classifier's classes, and warn of classes that cannot be learned or judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations

import numpy as np

from ..adp import ADP
from ..errors import InputError
from ..labels import Taxonomy
from .patch_labels import PatchLabels

#: Fewer patches with a class, or without it, get a warning.
FEW = 50

NEARLY = 0.95  #: least share of the patches with either of two classes that have both, for "nearly always together"
MOST_FULL = 0.5  #: a larger share of patches with every class gets a warning


def match_columns(
    labels: PatchLabels, classes: Sequence[str], taxonomy: Taxonomy | None, source: str
) -> tuple[Taxonomy | None, tuple[str, ...], list[str]]:
    """Match the labels' columns with classes: the model's, new ones, or ADP's if all columns are codes of ADP.

    `classes` are the names that the user gives, if any; `taxonomy` the model's classes, if it has a class file;
    `source` the name of that file, for messages.

    Returns the taxonomy of the columns, or None if they are new classes; the columns to use; and notes on surprising
    decisions. Raises InputError if the columns match no classes, or are ambiguous.
    """
    columns = labels.columns
    if taxonomy:
        if classes and tuple(classes) != taxonomy.codes:
            raise InputError(
                f"`classes` {' '.join(classes)}: {source} has {', '.join(taxonomy.codes)}; leave them out, or give "
                "another `name`"
            )
        return taxonomy, *_columns_of(labels, taxonomy, source)
    if classes:
        missing = [name for name in classes if name not in columns]
        if missing:
            raise InputError(f"{labels.source}: no column {missing[0]!r}; it has {', '.join(columns)}")
        unused = [name for name in columns if name not in classes]
        return None, tuple(classes), [f"columns that are left out: {', '.join(unused)}"] if unused else []
    strange = [name for name in columns if name not in ADP.outputs and name not in ADP.vague]
    codes = [name for name in columns if name not in strange]
    if not codes:
        return None, columns, []
    first = f"`classes` {' '.join(columns[:3])}{' ...' if len(columns) > 3 else ''}"
    if strange:
        raise InputError(
            f"{labels.source}: {', '.join(codes[:5])} are classes of the Atlas of Digital Pathology, and "
            f"{strange[0]!r} is not{_hint(strange[0], ADP)}; for classes of your own, name the columns that count by "
            f"{first}; for the atlas's, remove the others"
        )
    meanings = ", ".join(f"{code} {ADP.outputs[code]}" for code in codes if code in ADP.outputs)
    note = (
        f"all columns are taken for classes of the Atlas of Digital Pathology: {meanings}. If they mean something "
        f"else, say so by {first}"
    )
    columns, notes = _columns_of(labels, ADP, "adp.toml")
    return ADP, columns, [note, *notes]


def _columns_of(labels: PatchLabels, taxonomy: Taxonomy, source: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns that are classes of `taxonomy`, and notes on the others."""
    columns = tuple(name for name in labels.columns if name in taxonomy.outputs or name in taxonomy.vague)
    if not columns:
        raise InputError(
            f"{labels.source}: no column is a class of {source}; it has {', '.join(labels.columns[:6])}, expected "
            f"some of {', '.join(taxonomy.codes[:6])}"
        )
    notes = [
        f"{labels.source}: column {name!r} is no class of {source} and is left out{_hint(name, taxonomy)}"
        for name in labels.columns
        if name not in columns
    ]
    vague = [name for name in columns if name not in taxonomy.outputs]
    if vague:
        notes.append(f"{', '.join(vague)} have no output of their own; they count for their parents")
    return columns, notes


def _hint(column: str, taxonomy: Taxonomy) -> str:
    close = get_close_matches(column, taxonomy.outputs, 1)
    return f" (do you mean {close[0]}?)" if close else ""


def targets_of(present: np.ndarray, columns: Sequence[str], taxonomy: Taxonomy) -> np.ndarray:
    """Return the training targets of N patches, (N, K) float32: 1 for a label's output and its parents, else 0.

    `present`, (N, len(columns)) bool, are the labels of N patches, `columns` their codes; K is the number of outputs.
    """
    implied = np.zeros((len(columns), len(taxonomy.outputs)), np.float32)
    for row, column in zip(implied, columns, strict=True):
        row[taxonomy.with_parents([column])] = 1
    return np.minimum(present.astype(np.float32) @ implied, 1)


def describe_classes(taxonomy: Taxonomy, train: np.ndarray, validation: np.ndarray) -> list[str]:
    """Return a line for each class, with its numbers of training and validation patches, and one on their mixture.

    `train` and `validation` are the targets of the patches, (N, K) of 0 or 1.
    """
    lines = [f"{len(train)} patches to train on, {len(validation)} to validate on; of these have"]
    width = max(len(code) for code in taxonomy.outputs)
    for i, (code, name) in enumerate(taxonomy.outputs.items()):
        if train[:, i].any() or validation[:, i].any():
            words = "" if name == code else f"  {name}"
            share = f"{train[:, i].mean():5.0%}"
            lines.append(f"  {code:{width}} {train[:, i].sum():7.0f} {validation[:, i].sum():7.0f} {share}{words}")
    return [*lines, str(mixture_of(taxonomy.codes, train > 0, taxonomy))]


def check_classes(taxonomy: Taxonomy, train: np.ndarray, validation: np.ndarray) -> list[str]:
    """Return a warning for each class that cannot be learned or judged.

    Parameters are those of `describe_classes`. Raises InputError if no class can be judged: each is in all validation
    patches or in none.
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
            "`validation`, or patches that lack classes, such as smaller ones"
        )
    return notes


@dataclass(frozen=True)
class Mixture:
    """Co-occurrence of classes in patches. Only patches with one class and without another teach where each is."""

    full: float  #: share of the patches that have every class, in 0..1
    always: list[tuple[str, str]]  #: pairs of classes that nearly always come together; see `NEARLY`
    never: list[tuple[str, str]]  #: pairs of classes that never come together

    def __str__(self) -> str:
        together = f"always together: {_shown(self.always)}; never: {_shown(self.never)}"
        return f"{self.full:.0%} of them have every class; {together}"

    def warnings(self, size_that_helps: Callable[[], int]) -> list[str]:
        """Return warnings of classes that labels cannot localise, with a smaller patch side in px as advice."""
        notes = []
        if self.always:
            pairs = _shown(self.always)
            notes.append(f"{pairs}: nearly always come together, so that labels cannot tell which is where")
        if self.full > MOST_FULL:
            notes.append(f"{self.full:.0%} of the patches have every class, and cannot teach where each is")
        if not notes:
            return []
        advice = f"cut smaller patches, such as of {size_that_helps()} px, or ask for a larger share of each class"
        return [f"{note}; {advice}" for note in notes]


def _shown(pairs: list[tuple[str, str]]) -> str:
    more = [f"and {len(pairs) - 5} more"] if len(pairs) > 5 else []
    return ", ".join([*(" + ".join(pair) for pair in pairs[:5]), *more]) or "-"


def mixture_of(codes: Sequence[str], present: np.ndarray, taxonomy: Taxonomy | None = None) -> Mixture:
    """Return the mixture of K classes in N patches, (N, K) bool; classes of no patch are left out.

    With `taxonomy`, pairs of a class and its parent, which always come together, are left out, too.
    """
    occurring = np.flatnonzero(present.any(axis=0))
    present = present[:, occurring].astype(np.int64)
    together, numbers = present.T @ present, present.sum(axis=0)
    always, never = [], []
    for i, j in combinations(range(len(occurring)), 2):
        pair = codes[occurring[i]], codes[occurring[j]]
        if taxonomy and any(taxonomy.codes.index(b) in taxonomy.with_parents([a]) for a, b in (pair, pair[::-1])):
            continue
        if together[i, j] >= NEARLY * (numbers[i] + numbers[j] - together[i, j]):
            always.append(pair)
        elif not together[i, j]:
            never.append(pair)
    full = float(present.all(axis=1).mean()) if len(occurring) > 1 else 0.0
    return Mixture(full, always, never)
