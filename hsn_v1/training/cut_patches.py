"""Patches with labels out of images with masks: which classes are in a patch, and never where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..io.images import find_images, read_image
from ..io.masks import find_mask, read_mask
from ..io.writing import write_picture, write_table
from ..labels import LabelSet
from ..parallel import in_parallel


@dataclass(frozen=True)
class Cut:
    """How patches are cut.

    Attributes
    ----------
    size, stride : int
        Side of the patches, and from one to the next, in px at their own scale.
    factor : float
        The images' mpp over the patches'.
    share : float
        A class is in a patch if it covers at least this share of it.
    """

    size: int
    stride: int
    factor: float = 1.0
    share: float = 0.05


def patch_starts(length: int, size: int, stride: int) -> list[int]:
    """Return where patches start along an axis: every `stride` px, the last one flush with the far edge."""
    if length < size:
        return []
    return sorted({*range(0, length - size + 1, stride), length - size})


def labelled_patches(
    image: np.ndarray, truth: np.ndarray, classes: int, cut: Cut
) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Cut an image, and tell which classes are in each patch.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    truth : ndarray of shape (H, W), uint8
        Class indices; `classes` where the pixel is unlabelled.
    classes : int
    cut : Cut
        Its factor is not applied here.

    Returns
    -------
    list of (row, column, ndarray of shape (size, size, 3), ndarray of shape (classes,), bool)
        Patches without any class, or of which more than half is unlabelled, are left out.
    """
    patches = []
    for y in patch_starts(image.shape[0], cut.size, cut.stride):
        for x in patch_starts(image.shape[1], cut.size, cut.stride):
            window = np.s_[y : y + cut.size, x : x + cut.size]
            area = np.bincount(truth[window].ravel(), minlength=classes + 1) / cut.size**2
            present = area[:classes] >= cut.share
            if present.any() and area[classes] <= 0.5:
                patches.append((y, x, image[window], present))
    return patches


def cut_patches(
    images: Path,
    truth: Path,
    label_set: LabelSet,
    codes: Sequence[str],
    cut: Cut,
    out: Path,
    validation: float = 0,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[dict[Path, np.ndarray], list[str]]:
    """Cut the patches of a folder of images with masks, and write them with a table of their labels.

    Parameters
    ----------
    images, truth : Path
        Folders; a mask has its image's name.
    label_set : LabelSet
        Whose colours the masks have.
    codes : sequence of str
        Classes of the label set that become labels.
    cut : Cut
    out : Path
        Folder to write into; with validation, its folders ``train`` and ``validation``.
    validation : float
        Share of the images whose patches are kept for validation; 0 for none.
    seed : int
        Of the choice of these images.
    quiet : bool
        Show no progress.

    Returns
    -------
    labels : dict of Path to ndarray of shape (N, len(codes)), bool
        By the folder that was written.
    notes : list of str
        What was left out.

    Raises
    ------
    InputError
        If no image can be cut.
    """
    paths = find_images(images, "any")
    stems = [path.stem for path in paths]
    twice = next((stem for i, stem in enumerate(stems) if stem in stems[:i]), None)
    if twice is not None:
        raise InputError(f"{images / twice}.*: two images of this name, whose patches would overwrite each other")
    order = np.random.default_rng(seed).permutation(len(paths))
    kept = set(order[: round(validation * len(paths))].tolist())
    if validation and not 0 < len(kept) < len(paths):
        raise InputError(
            f"--validation {validation:g}: of {len(paths)} images; expected a share that leaves some for both"
        )
    folders = [out / ("validation" if i in kept else "train") if validation else out for i in range(len(paths))]
    jobs = [
        (path, find_mask(truth, path.name), label_set, codes, cut, folder)
        for path, folder in zip(paths, folders, strict=True)
    ]
    tables: dict[Path, list[list]] = {folder: [] for folder in dict.fromkeys(folders)}
    notes = []
    for folder, (rows, note) in zip(
        folders, in_parallel(_cut_one, jobs, f"cutting {len(jobs)} images", quiet), strict=True
    ):
        tables[folder] += rows
        notes += [note] if note else []
    if not any(tables.values()):
        raise InputError(f"{notes[0]}; no patch was cut")
    for folder, rows in tables.items():
        write_table(folder / "labels.csv", [["patch", *codes], *rows])
    return {folder: np.array([row[1:] for row in rows], bool) for folder, rows in tables.items()}, notes


def _cut_one(
    path: Path, mask: Path, label_set: LabelSet, codes: Sequence[str], cut: Cut, out: Path
) -> tuple[list[list], str]:
    """Write an image's patches, and return their rows of the table, and what is to be said."""
    try:
        image, _ = read_image(path)
        height, width = (round(side * cut.factor) for side in image.shape[:2])
        truth = read_mask(mask, label_set, image.shape[:2]).labels
    except InputError as error:
        return [], f"left out: {error}"
    if cut.factor != 1:
        how = cv2.INTER_AREA if cut.factor < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=how)
        truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
    chosen = label_set.indices(codes)
    patches = labelled_patches(image, truth, len(label_set), cut)
    rows = []
    for y, x, patch, present in patches:
        name = f"{path.stem}_{y}_{x}.png"
        write_picture(out / name, patch)
        rows.append([name, *present[chosen].astype(int).tolist()])
    return rows, "" if rows else f"left out: {path}: {width} x {height} px give no patch of {cut.size} px with a class"
