"""Mosaics of patches that have one label each: images whose borders between classes are known without any mask.

As HisynSeg makes them to train on (Fang et al., IEEE TMI 2024); here the CRF is tuned on them.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..io.images import read_image
from ..labels import LabelSet, Taxonomy
from .cut_patches import read_context
from .patch_labels import read_patch_labels

SIDE = 480  #: of a mosaic, in px of the patches, at least
REGION = 80  #: side of a mosaic's regions of one class, in px of the patches, at least


def mosaics(
    folder: Path, taxonomy: Taxonomy, label_set: LabelSet, count: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Put patches together whose classes of a label set are one each; their margins are left out.

    Parameters
    ----------
    folder : Path
        Patches and their labels, as to train on; all as large as the first one.
    taxonomy : Taxonomy
        Classes of the labels.
    label_set : LabelSet
        Classes of the mosaics, of which those that the classifier scores can come.
    count : int
        Number of mosaics.
    seed : int
        Seed of what lies where.

    Returns
    -------
    list of (ndarray of shape (H, H, 3), ndarray of shape (H, H)), uint8
        Images and their class indices.

    Raises
    ------
    InputError
        If fewer than two classes have patches of their own, or a patch cannot be read.
    """
    table = read_patch_labels(folder, None, taxonomy.codes)
    missing = [code for code in taxonomy.codes if code not in table.columns]
    if missing:
        raise InputError(f"{table.source}: no labels of {missing[0]}; expected those of {', '.join(taxonomy.codes)}")
    paths = np.array(list(table.cells), object)
    present = table.of([label_set.codes[c] for c in label_set.classified])
    alone = present.sum(axis=1) == 1
    patches_of = {c: paths[alone & own] for c, own in zip(label_set.classified, present.T, strict=True)}
    classes = [c for c, found in patches_of.items() if len(found)]
    if len(classes) < 2:
        raise InputError(f"{folder}: patches of one label alone are of fewer than two classes; cut smaller ones")
    size, context = read_context(folder) or (min(read_image(paths[alone][0])[0].shape[:2]), 0)
    repeat = math.ceil(REGION / size)  # patches along the side of a region
    regions = max(math.ceil(SIDE / (size * repeat)), 2)
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        grid = rng.choice(classes, (regions, regions)).repeat(repeat, 0).repeat(repeat, 1)
        rows = [[_core(rng.choice(patches_of[c]), size, context) for c in row] for row in grid]
        labels = grid.astype(np.uint8).repeat(size, 0).repeat(size, 1)
        made.append((np.concatenate([np.concatenate(row, axis=1) for row in rows]), labels))
    return made


def _core(path: Path, size: int, context: int) -> np.ndarray:
    """Return a patch without its margin."""
    image, _ = read_image(path)
    image = image[context:, context:][:size, :size]
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, size - height, 0, size - width, cv2.BORDER_REFLECT)
