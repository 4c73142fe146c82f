"""Phantoms to train classifiers on and to tune them with, from seeds that are kept for each purpose."""

from __future__ import annotations

import numpy as np

from ..adp import ADP, CLASS_FILE, CLASSIFIER_MPP
from ..labels import LabelSet
from ..parallel import in_parallel
from . import phantom

#: Phantoms that have a label set's ground truth, and their scale in mpp.
TUNING = {
    "morph": (phantom.patch, CLASSIFIER_MPP),
    "func": (phantom.patch, CLASSIFIER_MPP),
    "glas": (phantom.glas, 0.620),
}

#: What everyone who sees results of a classifier that was trained on phantoms must know.
CAVEAT = "Segmented by a classifier that was trained on phantoms and knows no real tissue: not a medical result."


def class_file() -> str:
    """Return the text of the file of classes of a classifier that is trained on phantoms: ADP's, with the caveat."""
    head, _, tail = CLASS_FILE.partition("\n[outputs]")
    return f'{head.rstrip()}\ncaveat = "{CAVEAT}"\n\n[outputs]{tail}'


def patches(purpose: str, count: int, tile: int, quiet: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Make phantom patches, in parallel, of the first of `phantom.SEEDS` for a purpose, with labels but no masks.

    Returns images, (count, tile, tile, 3) uint8, and targets, (count, 51) float32, 1 where one of ADP's classes is
    present, parents included, else 0.
    """
    jobs = [(seed, tile) for seed in phantom.SEEDS[purpose][:count]]
    images = np.empty((count, tile, tile, 3), np.uint8)
    targets = np.zeros((count, len(ADP.outputs)), np.float32)
    made = in_parallel(_patch, jobs, f"making {count} phantoms for {purpose}", quiet)
    for i, (image, present) in enumerate(made):
        images[i] = image
        targets[i, present] = 1
    return images, targets


def _patch(seed: int, tile: int) -> tuple[np.ndarray, list[int]]:
    made = phantom.patch(seed, size=(tile, tile))
    return made.image, ADP.with_parents(phantom.present(made))


def tuning_set(label_set: LabelSet, count: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Return images and label maps of phantoms that are kept for tuning, and their scale in mpp."""
    make, mpp = TUNING[label_set.name]
    phantoms = [make(seed) for seed in phantom.SEEDS["tuning"][:count]]
    return [(made.image, made.labels[label_set.name]) for made in phantoms], mpp
