"""Cut patches out of images with masks, and label them: which classes are in a patch, and never where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, merge_notes
from ..io.images import find_images, read_image
from ..io.masks import find_mask, read_mask
from ..io.tree import check_stems
from ..io.writing import write_bytes, write_picture, write_table
from ..labels import LabelSet
from ..parallel import in_parallel

CONTEXT = "context.json"  #: file beside patches with a margin: the side of what their labels tell of, and the margin


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
    validation : float
        Share of the images whose patches are kept for validation; 0 for none.
    seed : int
        Seed of the choice of these images.
    context : int
        Width of a margin around each patch, in px at its own scale, which is seen and of which its labels do not tell.
    resize : str
        Whether masks of another size are resized; see `read_mask`.
    """

    size: int
    stride: int
    factor: float = 1.0
    share: float = 0.05
    validation: float = 0.0
    seed: int = 0
    context: int = 0
    resize: str = "noted"


def patch_starts(length: int, size: int, stride: int) -> list[int]:
    """Return where patches start along an axis: every `stride` px, the last one flush with the far edge."""
    if length < size:
        return []
    return sorted({*range(0, length - size + 1, stride), length - size})


def classes_by_place(truth: np.ndarray, classes: int, cut: Cut) -> dict[tuple[int, int], np.ndarray]:
    """Tell which classes are in each patch of an image.

    Parameters
    ----------
    truth : ndarray of shape (H, W), uint8
        Class indices; `classes` where the pixel is unlabelled.
    classes : int
        Number C of classes.
    cut : Cut
        How to cut; its factor is not applied here.

    Returns
    -------
    dict of (int, int) to ndarray of shape (C,), bool
        By the row and the column of a patch's first pixel. Patches without any class, or of which more than half is
        unlabelled, are left out.
    """
    labels = {}
    for y in patch_starts(truth.shape[0], cut.size, cut.stride):
        for x in patch_starts(truth.shape[1], cut.size, cut.stride):
            patch = truth[y : y + cut.size, x : x + cut.size]
            area = np.bincount(patch.ravel(), minlength=classes + 1) / cut.size**2
            present = area[:classes] >= cut.share
            if present.any() and area[classes] <= 0.5:
                labels[y, x] = present
    return labels


def cut_patches(
    images: Path, truth: Path, label_set: LabelSet, cut: Cut, out: Path, quiet: bool = False
) -> tuple[dict[Path, np.ndarray], list[str], list[str]]:
    """Cut the patches of a folder of images with masks, and write them with a table of their labels.

    Parameters
    ----------
    images, truth : Path
        Folders; a mask has its image's name.
    label_set : LabelSet
        Colours of the masks; its K classified classes become labels.
    cut : Cut
        How to cut.
    out : Path
        Folder to write into; with validation, its folders ``train`` and ``validation``.
    quiet : bool
        Show no progress.

    Returns
    -------
    labels : dict of Path to ndarray of shape (N, K), bool
        By the folder that was written.
    notes : list of str
        What the user should know of the masks.
    failures : list of str
        Images that were left out, and why.

    Raises
    ------
    InputError
        If no image can be cut.
    """
    paths = find_images(images, "any")
    check_stems(paths)
    folders = _folders(len(paths), cut, out)
    jobs = [
        (path, find_mask(truth, path.name), label_set, cut, folder) for path, folder in zip(paths, folders, strict=True)
    ]
    tables: dict[Path, list[list]] = {folder: [] for folder in dict.fromkeys(folders)}
    notes, failures = [], []
    done = in_parallel(_cut_image, jobs, f"cutting {len(jobs)} images", quiet)
    for folder, (rows, said, failure) in zip(folders, done, strict=True):
        tables[folder] += rows
        notes += said
        failures += [failure] if failure else []
    if not any(tables.values()):
        raise InputError(f"{failures[0]}; no patch was cut")
    codes = [label_set.codes[i] for i in label_set.classified]
    for folder, rows in tables.items():
        if cut.context:
            write_bytes(folder / CONTEXT, json.dumps({"size": cut.size, "context": cut.context}).encode())
        write_table(folder / "labels.csv", [["patch", *codes], *rows])
    labels = {folder: np.array([row[1:] for row in rows], bool) for folder, rows in tables.items()}
    return labels, merge_notes(notes), failures


def read_context(folder: Path) -> tuple[int, int] | None:
    """Return the side of what a folder's patches have labels of, and the width of the margin around it, in px.

    None if the folder does not say so: then the patches have no margin.
    """
    path = folder / CONTEXT
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        size, context = content["size"], content["context"]
    except (OSError, ValueError, KeyError, TypeError):
        size = context = None
    if not all(type(value) is int and 0 < value <= 4096 for value in (size, context)):
        raise InputError(f'{path}: cannot be read; expected {{"size": 48, "context": 32}}, in px')
    return size, context


def _folders(count: int, cut: Cut, out: Path) -> list[Path]:
    """Return the folder of each image's patches: all patches of an image are in one part."""
    kept = set(np.random.default_rng(cut.seed).permutation(count)[: round(cut.validation * count)].tolist())
    if cut.validation and not 0 < len(kept) < count:
        raise InputError(
            f"`validation` {cut.validation:g}: of {count} images; expected a share that leaves some for both"
        )
    return [out / ("validation" if i in kept else "train") if cut.validation else out for i in range(count)]


def _cut_image(
    path: Path, mask: Path, label_set: LabelSet, cut: Cut, out: Path
) -> tuple[list[list], Sequence[str], str]:
    """Write an image's patches, and return their rows of the table, notes, and why it was left out, if it was."""
    try:
        image, _ = read_image(path)
        truth = read_mask(mask, label_set, image.shape[:2], cut.resize)
    except InputError as error:
        return [], [], str(error)
    height, width = (round(side * cut.factor) for side in image.shape[:2])
    labels = truth.labels
    if cut.factor != 1:
        how = cv2.INTER_AREA if cut.factor < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=how)
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    rows, side = [], cut.size + 2 * cut.context
    image = cv2.copyMakeBorder(image, *[cut.context] * 4, cv2.BORDER_REFLECT)
    for (y, x), present in classes_by_place(labels, len(label_set), cut).items():
        name = f"{path.stem}_{y}_{x}.png"
        write_picture(out / name, image[y : y + side, x : x + side])
        rows.append([name, *present[label_set.classified].astype(int).tolist()])
    failure = "" if rows else f"{path}: {width} x {height} px give no patch of {cut.size} px with a class"
    return rows, truth.notes, failure
