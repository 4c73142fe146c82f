"""Read training data: images of patches and their labels, nothing else. No mask ever leaves `cut_patches`.

`patch_labels` reads the labels, and `classes` matches them with classes. This module joins images and labels, for
training and validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..adp import CLASS_FILE
from ..class_file import parse_taxonomy
from ..errors import InputError
from ..io.images import read_image
from ..io.reading import is_there, read_text
from ..labels import Colour, Taxonomy
from ..parallel import in_parallel
from .classes import match_columns, targets_of
from .cut_patches import read_context
from .networks import NORMALISATION
from .new_class_file import VIEWS, class_file
from .patch_labels import read_patch_labels
from .recipe import Recipe


@dataclass(frozen=True)
class LabelledPatches:
    """Patches and the classes that are in them, but not where."""

    images: np.ndarray  #: (N, tile, tile, 3) uint8: RGB
    targets: np.ndarray  #: (N, K) float32, 0 or 1: which of the classifier's outputs are present, parents included

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> LabelledPatches:
        """Return the patches of these indices."""
        return LabelledPatches(self.images[indices], self.targets[indices])

    def split(self, count: int, seed: int) -> tuple[LabelledPatches, LabelledPatches]:
        """Split off `count` patches, drawn at random; return the rest and these.

        Rare labels are drawn first: a label that two or more patches have is in both parts, if `count` allows it. The
        same holds for a label that two or more patches lack.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        chosen: list[int] = []
        with_or_without = np.concatenate([self.targets > 0, self.targets == 0], axis=1)[order]  # (N, 2 K)
        numbers = with_or_without.sum(axis=0)
        for column in np.argsort(numbers, kind="stable"):
            if numbers[column] >= 2 and len(chosen) < count and not with_or_without[chosen, column].any():
                chosen.append(int(np.flatnonzero(with_or_without[:, column])[0]))
        rest = np.setdiff1d(np.arange(len(order)), chosen)
        validation = order[np.sort([*chosen, *rest[: count - len(chosen)]])]
        return self.take(np.setdiff1d(order, validation)), self.take(validation)


@dataclass(frozen=True)
class TrainingData:
    """Patches for training and validation, and the classes of their targets."""

    labels: Taxonomy
    class_file: str  #: text of the class file
    train: LabelledPatches
    validation: LabelledPatches  #: to choose the best epoch
    judged: LabelledPatches  #: patches of any size, for thresholds and metrics; usually the validation patches
    notes: list[str]  #: for the user
    context: int = 0  #: width of each patch's margin, which its labels leave out, in px


@dataclass(frozen=True)
class PatchSource:
    """A user's patches: their folder, labels, classes and scale."""

    images: Path  #: folder of the patches
    labels: str | None  #: see `read_patch_labels`
    classes: Mapping[str, Colour | None]  #: names of the classes, and their colours in masks; empty if not said
    background: str | None  #: rule that finds background, if the classes are new: "brightness" or "grey"
    mpp: float | None  #: scale of the patches, in microns per pixel; None if a patch shows as much tissue as a tile
    model_mpp: float | None  #: scale that they are resized to, if the classes are new
    validation: str | None  #: number of patches, or a folder like `images`


def read_training_data(source: PatchSource, path: Path, recipe: Recipe, quiet: bool = False) -> TrainingData:
    """Read the patches for training and validation.

    `path` is the model's class file, which may be missing. Of the recipe, tile, seed and network are used. Raises
    InputError if something is missing, cannot be read or does not fit.
    """
    size, margin = read_context(source.images) or (0, 0)
    if margin and not recipe.probed:
        raise InputError(
            f"{source.images}: patches with context, from which only efficientnet-lite0 learns; give it as `network`, "
            "or cut patches without"
        )
    text = read_text(path) if is_there(path) else CLASS_FILE
    existing = parse_taxonomy(text, str(path)) if is_there(path) else None
    first = _read(source, existing, str(path), recipe, quiet)
    train, validation, notes = _with_validation(source, first, str(path), recipe, quiet)
    taxonomy, notes = first.taxonomy, [*first.notes, *(note for note in notes if note not in first.notes)]
    if taxonomy is None:
        moments = NORMALISATION.get(recipe.network) or channel_statistics(train.images)
        colours = {column: source.classes.get(column) for column in first.columns}
        views = VIEWS if recipe.probed else ""
        text = class_file(path.stem, colours, source.model_mpp or source.mpp, moments, source.background, views)
        taxonomy = parse_taxonomy(text, str(path))
        notes.append(f"{path} is new: the classes, their colours and names; edit these at any time")
    train, validation = (
        LabelledPatches(part.images, targets_of(part.targets > 0, first.columns, taxonomy))
        for part in (train, validation)
    )
    factor = source.mpp / taxonomy.mpp if source.mpp else 1
    context, side = round(margin * factor), round((size + 2 * margin) * factor)
    if side > recipe.tile:
        raise InputError(
            f"`tile` {recipe.tile}: {source.images} has patches of {side} px with their margin; leave it out"
        )
    return TrainingData(taxonomy, text, train, validation, validation, notes, context)


@dataclass(frozen=True)
class _Folder:
    """A folder's patches; their targets are the columns of its labels."""

    taxonomy: Taxonomy | None
    columns: tuple[str, ...]
    patches: LabelledPatches
    notes: list[str]


def _read(source: PatchSource, taxonomy: Taxonomy | None, file: str, recipe: Recipe, quiet: bool) -> _Folder:
    table = read_patch_labels(source.images, source.labels, taxonomy.codes if taxonomy else tuple(source.classes))
    taxonomy, columns, notes = match_columns(table, tuple(source.classes), taxonomy, file)
    if taxonomy is None and not source.mpp:
        raise InputError("`mpp` is missing: microns per pixel of the patches, such as 0.5 at 20x; the model keeps it")
    scale = taxonomy.mpp if taxonomy else source.model_mpp or source.mpp
    factor = source.mpp / scale if source.mpp else None
    patches, left_out = read_patches(list(table.cells), table.of(columns), recipe.tile, factor, quiet)
    return _Folder(taxonomy, columns, patches, [*table.notes, *notes, *left_out])


def _with_validation(
    source: PatchSource, first: _Folder, file: str, recipe: Recipe, quiet: bool
) -> tuple[LabelledPatches, LabelledPatches, list[str]]:
    """Return the training and validation patches, and notes; the latter are split off, or have their own folder."""
    count = source.validation or str(max(1, len(first.patches) // 9))
    if len(first.patches) == 1 and not source.validation:
        raise InputError(f"{source.images}: one patch that can be read; expected two or more, to train and validate on")
    if count.isdigit():
        if not 0 < int(count) < len(first.patches):
            raise InputError(f"`validation` {count}: of {len(first.patches)} patches; expected fewer, and at least 1")
        return *first.patches.split(int(count), recipe.seed), []
    classes = {} if first.taxonomy else dict.fromkeys(first.columns)
    source = replace(source, images=Path(count), labels=None, classes=classes)
    second = _read(source, first.taxonomy, file, recipe, quiet)
    if second.columns != first.columns:
        raise InputError(f"{count}: labels {', '.join(second.columns)}; expected {', '.join(first.columns)}")
    return first.patches, second.patches, second.notes


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of R, G and B over images (N, H, W, 3) uint8: two float64 arrays of (3,)."""
    totals = np.zeros((2, 3))
    for image in images:  # one at a time: all of them as floats would take eight times the memory
        pixels = image.reshape(-1, 3).astype(np.float64)
        totals += pixels.mean(axis=0), (pixels**2).mean(axis=0)
    mean, squares = totals / len(images)
    return mean, np.sqrt(np.maximum(squares - mean**2, 1))


def read_patches(
    paths: Sequence[Path], targets: np.ndarray, tile: int, factor: float | None = None, quiet: bool = False
) -> tuple[LabelledPatches, list[str]]:
    """Read patches as tiles of `tile` px, with their targets, (N, K) of 0 or 1; unreadable patches are left out.

    See `fit_to_tile` for `factor`. Also returns notes: which patches were left out and why, and how many were shrunk.
    Raises InputError if none can be read.
    """
    jobs = [(path, tile, factor) for path in paths]
    images = np.empty((len(jobs), tile, tile, 3), np.uint8)
    kept, failures, shrunk = [], [], []
    for i, (image, note) in enumerate(in_parallel(_read_patch, jobs, f"reading {len(jobs)} patches", quiet)):
        if image is None:
            failures.append(note)
            continue
        images[len(kept)] = image
        kept.append(i)
        shrunk += [note] if note else []
    if not kept:
        raise InputError(failures[0])
    notes = [f"left out: {message}" for message in failures[:10]]
    if len(failures) > 10:
        notes.append(f"left out: {len(failures) - 10} more that cannot be read")
    if shrunk:
        notes.append(
            f"{len(shrunk)} patches are larger than a tile of {tile} px and were shrunk, such as {shrunk[0]}; to keep "
            "their scale, cut them smaller or give a larger `tile`"
        )
    return LabelledPatches(images[: len(kept)], np.asarray(targets, np.float32)[kept]), notes


def _read_patch(path: Path, tile: int, factor: float | None) -> tuple[np.ndarray | None, str]:
    try:
        image, _ = read_image(path)
    except InputError as error:
        return None, str(error)
    height, width = image.shape[:2]
    too_large = factor is not None and round(max(height, width) * factor) > tile
    return fit_to_tile(image, tile, factor), f"{path.name} ({width} x {height} px)" if too_large else ""


def fit_to_tile(image: np.ndarray, tile: int, factor: float | None = None) -> np.ndarray:
    """Fit an image, (H, W, 3) uint8, to a tile: scale it, shrink it if still too large, mirror it if too small.

    `factor` is the image's mpp over the classifier's; without it, the longer side becomes the tile's.
    """
    fitting = tile / max(image.shape[:2])
    scale = fitting if factor is None else min(factor, fitting)
    height, width = (min(max(round(side * scale), 1), tile) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=how)
    top, left = (tile - height) // 2, (tile - width) // 2
    return cv2.copyMakeBorder(image, top, tile - height - top, left, tile - width - left, cv2.BORDER_REFLECT)
