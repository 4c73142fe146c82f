"""Baselines for a score: masks that need no classifier. They show how much a data set and its labels give away.

- One class everywhere: the one with the best score.
- The best threshold of one colour channel, between the two commonest classes. It is chosen on the masks that it is
  scored by, so that no threshold does better.
- The true patch labels, painted: each window gets the class that covers most of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..evaluate import confusion_matrix, excluded_index, protocol_metrics
from ..io.images import read_image
from ..io.masks import Mask
from ..labels import LabelSet
from .score import ImageScore, Score

CHANNELS = ("red", "green", "blue", "grey", "saturation")


@dataclass(frozen=True)
class Truth:
    """Counts of an image's ground truth that the baselines need; pixels that do not count are left out."""

    name: str
    pixels: np.ndarray  #: pixels of each class in the file, (C,)
    painted: np.ndarray  #: confusion matrix of the painted patch labels, (C + 1, C + 1)
    colours: np.ndarray | None = None  #: pixels of each true class by value, (CHANNELS, 256, C + 1)


def measure_truth(name: str, mask: Mask, label_set: LabelSet, patch: int, image: Path | None) -> Truth:
    """Count the pixels of an image's ground truth for the baselines.

    `patch` is the side of the windows whose labels are painted, in px of the mask. `image` is the image's file, without
    which there is no threshold.
    """
    labels, classes = mask.labels, len(label_set)
    painted = confusion_matrix(labels, paint(labels, patch, classes), classes)
    colours = _colours(read_image(image)[0], labels, classes) if image else None
    if mask.size is None:  # annotations: pixels in none of them do not count
        painted[-1] = 0
        if image:
            colours[..., -1] = 0
    return Truth(name, mask.pixels, painted, colours)


def baseline_scores(truths: list[Truth], label_set: LabelSet, patch: int) -> dict[str, Score]:
    """Return the scores of all baselines, by description; a threshold is among them if the truths have colours."""
    scores = dict([_best_class(truths, label_set)])
    if truths[0].colours is not None:
        scores |= dict([_best_threshold(truths, label_set)])
    windows = [truth.painted for truth in truths]
    return scores | {f"true labels of windows of {patch} px, painted": _score(truths, windows, label_set)}


def paint(labels: np.ndarray, patch: int, classes: int) -> np.ndarray:
    """Fill windows of `patch` px with the class that covers most of each, or `classes` if none does; (H, W) uint8."""
    tops, lefts = (np.arange(0, side, patch) for side in labels.shape)
    covered = [np.add.reduceat(np.add.reduceat(labels == c, tops, 0, int), lefts, 1) for c in range(classes)]
    largest = np.where(np.any(covered, axis=0), np.argmax(covered, axis=0), classes).astype(np.uint8)
    return largest.repeat(patch, axis=0).repeat(patch, axis=1)[: labels.shape[0], : labels.shape[1]]


def _colours(image: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each true class, and of no class, by value in each of the `CHANNELS`."""
    image = cv2.resize(image, labels.shape[::-1], interpolation=cv2.INTER_AREA)
    grey, saturation = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    values = np.stack([*np.moveaxis(image, -1, 0), grey, saturation]).astype(np.int64) * (classes + 1) + labels
    return np.stack([np.bincount(v.ravel(), minlength=256 * (classes + 1)).reshape(256, classes + 1) for v in values])


def _best_class(truths: list[Truth], label_set: LabelSet) -> tuple[str, Score]:
    side = len(label_set) + 1
    counts = np.array([truth.painted.sum(axis=1) for truth in truths])  # (N, C + 1)
    every = counts[:, np.newaxis, :, np.newaxis] * np.eye(side, dtype=int)[:-1, np.newaxis]  # (N, C, C + 1, C + 1)
    best = int(_mean_iou(every.sum(axis=0), label_set).argmax())
    return f"all {label_set.codes[best]}", _score(truths, every[:, best], label_set)


def _best_threshold(truths: list[Truth], label_set: LabelSet) -> tuple[str, Score]:
    counts = sum(truth.painted for truth in truths)[:-1].sum(axis=1)
    pairs = (order := np.argsort(-counts, kind="stable")[:2].tolist()), order[::-1]
    best = (-1.0, (), 0, 0)
    total = sum(truth.colours for truth in truths)
    for pair in pairs:
        values = _mean_iou(_split(total, pair), label_set)  # (CHANNELS, 256)
        channel, value = np.unravel_index(values.argmax(), values.shape)
        best = max(best, (float(values[channel, value]), pair, int(channel), int(value)), key=lambda scored: scored[0])
    _, pair, channel, value = best
    confusions = [_split(truth.colours, pair)[channel, value] for truth in truths]
    low, high = (label_set.codes[c] for c in pair)
    return f"{low} where {CHANNELS[channel]} <= {value}, else {high}", _score(truths, confusions, label_set)


def _split(colours: np.ndarray, pair: list[int]) -> np.ndarray:
    """Return each threshold's confusion matrix, (..., 256, C + 1, C + 1): `pair[0]` up to it, `pair[-1]` above."""
    low = colours.cumsum(axis=-2)
    confusions = np.zeros((*low.shape, low.shape[-1]), np.int64)
    confusions[..., pair[0]] = low
    confusions[..., pair[-1]] += low[..., -1:, :] - low
    return confusions


def _mean_iou(confusions: np.ndarray, label_set: LabelSet) -> np.ndarray:
    return np.nan_to_num(protocol_metrics(confusions, excluded_index(label_set), "excluded")["mIoU"])


def _score(truths: list[Truth], confusions: Iterable[np.ndarray], label_set: LabelSet) -> Score:
    images = (ImageScore(t.name, confusion, t.pixels) for t, confusion in zip(truths, confusions, strict=True))
    return Score(label_set, tuple(images))
