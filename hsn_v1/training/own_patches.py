"""A user's patches, with classes out of a file of classes or new ones: what a classifier is trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..class_file import parse_taxonomy
from ..errors import InputError
from ..labels import Colour, Taxonomy
from .classes import match_columns, read_labels, targets_of
from .networks import NORMALISATION
from .new_class_file import class_file
from .recipe import Recipe
from .training_data import LabelledPatches, read_patches


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, what is judged on, and what the outputs mean.

    Attributes
    ----------
    labels : Taxonomy
    class_file : str
        Its text.
    train, validation : LabelledPatches
    judged : LabelledPatches
        Of any size; tells thresholds and figures. The validation patches, as a rule.
    notes : list of str
        What the user should know of it.
    """

    labels: Taxonomy
    class_file: str
    train: LabelledPatches
    validation: LabelledPatches
    judged: LabelledPatches
    notes: list[str]


@dataclass(frozen=True)
class Source:
    """Where a user's patches are, and what is said of them.

    Attributes
    ----------
    images : Path
        Folder of the patches.
    labels : str or None
        Path of a table, ``names``, or None for ``labels.csv`` in the folder, or else its file names.
    classes : mapping of str to colour or None
        What the classes are; empty if not said.
    background : {"brightness", "grey"} or None
        How new classes find background.
    mpp : float or None
        Scale of the patches, in microns per pixel; None if each shows what a tile shows.
    model_mpp : float or None
        Scale that they are brought to, if the classes are new.
    validation : str or None
        Number of patches, or a folder like `images`.
    """

    images: Path
    labels: str | None
    classes: Mapping[str, Colour | None]
    background: str | None
    mpp: float | None
    model_mpp: float | None
    validation: str | None


@dataclass(frozen=True)
class _Part:
    """The patches of a folder, whose targets are the columns of its labels."""

    taxonomy: Taxonomy | None
    columns: tuple[str, ...]
    patches: LabelledPatches
    notes: list[str]


def read_training_data(
    source: Source, path: Path, published: tuple[Taxonomy, str], recipe: Recipe, quiet: bool = False
) -> TrainingData:
    """Read patches to train on and to validate on.

    Parameters
    ----------
    source : Source
    path : Path
        The model's file of classes, which need not be there.
    published : (Taxonomy, str)
        Classes that a table may have without saying so, and their file's text: ADP's.
    recipe : Recipe
    quiet : bool
        Show no progress.

    Raises
    ------
    InputError
        If something is missing, cannot be read or does not fit.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = parse_taxonomy(text, str(path)) if text else None
    first = _read(source, known, path, published[0], recipe, quiet)
    if first.taxonomy is None and not source.mpp:
        raise InputError("--mpp is missing: microns per pixel of the patches, such as 0.5 at 20x; the model keeps it")
    train, validation, notes = _with_validation(source, first, known, path, published[0], recipe, quiet)
    taxonomy = first.taxonomy
    if taxonomy is None:
        text = _new_classes(source, first.columns, path.stem, train.images, recipe)
        taxonomy = parse_taxonomy(text, str(path))
        notes.append(f"{path} is new: the classes, their colours and names; edit these at any time")
    elif not known:
        text = published[1]
    train, validation = (
        LabelledPatches(part.images, targets_of(part.targets > 0, first.columns, taxonomy))
        for part in (train, validation)
    )
    return TrainingData(taxonomy, text, train, validation, validation, first.notes + notes)


def _read(
    source: Source, known: Taxonomy | None, path: Path, published: Taxonomy, recipe: Recipe, quiet: bool
) -> _Part:
    table = read_labels(source.images, source.labels, known.codes if known else tuple(source.classes))
    taxonomy, columns, notes = match_columns(table, tuple(source.classes), known, str(path), published)
    scale = taxonomy.mpp if taxonomy else source.model_mpp or source.mpp
    factor = source.mpp / scale if source.mpp else None
    paths = [source.images / name for name in table.cells]
    patches, left_out = read_patches(paths, table.of(columns), recipe.tile, factor, quiet)
    return _Part(taxonomy, columns, patches, notes + left_out)


def _with_validation(
    source: Source, first: _Part, known: Taxonomy | None, path: Path, published: Taxonomy, recipe: Recipe, quiet: bool
) -> tuple[LabelledPatches, LabelledPatches, list[str]]:
    """Return the patches to train on and to validate on: some of the first, or those of a folder of their own."""
    count = source.validation or str(max(1, len(first.patches) // 9))
    if len(first.patches) == 1 and not source.validation:
        raise InputError(f"{source.images}: one patch that can be read; expected two or more, to train and validate on")
    if count.isdigit():
        if not 0 < int(count) < len(first.patches):
            raise InputError(f"--validation {count}: of {len(first.patches)} patches; expected fewer, and at least 1")
        return *first.patches.split(int(count), recipe.seed), []
    second = _read(replace(source, images=Path(count), labels=None), known, path, published, recipe, quiet)
    if second.columns != first.columns:
        raise InputError(f"{count}: labels {', '.join(second.columns)}; expected {', '.join(first.columns)}")
    return first.patches, second.patches, [note for note in second.notes if note not in first.notes]


def _new_classes(source: Source, columns: tuple[str, ...], name: str, images: np.ndarray, recipe: Recipe) -> str:
    """Return the text of a new file of classes."""
    mean, std = NORMALISATION.get(recipe.network) or channel_statistics(images)
    colours = {column: source.classes.get(column) for column in columns}
    return class_file(name, colours, source.model_mpp or source.mpp, mean, std, source.background)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of R, G and B over images (N, H, W, 3) uint8: two float64 arrays of (3,)."""
    totals = np.zeros((2, 3))
    for image in images:  # one at a time: as floats, all of them would take eight times the memory
        pixels = image.reshape(-1, 3).astype(np.float64)
        totals += pixels.mean(axis=0), (pixels**2).mean(axis=0)
    mean, squares = totals / len(images)
    return mean, np.sqrt(np.maximum(squares - mean**2, 1))
