"""Evaluation: every metric comes from one confusion matrix per label set and stage, summed over the images.

A confusion matrix has C + 1 rows (ground truth; the last one for unlabelled pixels) and C columns (prediction).
"""

from __future__ import annotations

import numpy as np

from .labels import LabelSet


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each pair of true and predicted class.

    Parameters
    ----------
    truth : ndarray of shape (H, W), int
        Class indices; `classes` where the pixel is unlabelled.
    prediction : ndarray of shape (H, W), int
        Class indices.
    classes : int
        Number C of classes.

    Returns
    -------
    ndarray of shape (C + 1, C), int64

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"ground truth of shape {truth.shape} and prediction of shape {prediction.shape} differ")
    pairs = truth.astype(np.int64) * classes + prediction
    return np.bincount(pairs.ravel(), minlength=(classes + 1) * classes).reshape(classes + 1, classes)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Return each class's intersection over union.

    A prediction on an unlabelled pixel counts in the union of the predicted class; a class that is
    neither in the ground truth nor predicted has 0 (docs/method.md, "Evaluation").

    Parameters
    ----------
    confusion : ndarray of shape (C + 1, C)

    Returns
    -------
    ndarray of shape (C,), float64, in 0..1
    """
    intersection = np.diagonal(confusion)
    union = confusion[:-1].sum(axis=1) + confusion.sum(axis=0) - intersection
    return intersection / (union + 1e-12)


def occurring(confusion: np.ndarray) -> list[int]:
    """Return the classes that are in the ground truth or predicted, for a matrix of shape (C + 1, C)."""
    return np.flatnonzero(confusion[:-1].any(axis=1) | confusion.any(axis=0)).tolist()


def mean_iou(confusion: np.ndarray) -> float:
    """Return mIoU over all classes, absent ones included."""
    return float(iou(confusion).mean())


def mean_iou_present(confusion: np.ndarray) -> float:
    """Return mIoU over the classes that the ground truth has."""
    present = confusion[:-1].any(axis=1)
    return float(iou(confusion)[present].mean()) if present.any() else 0.0


def frequency_weighted_iou(confusion: np.ndarray, weights: np.ndarray) -> float:
    """Return fIoU, the sum of the classes' IoU times their `frequency_weights`."""
    return float(iou(confusion) @ weights)


def frequency_weights(pixels: np.ndarray) -> np.ndarray:
    """Return each class's weight in fIoU: proportional to ``1 / ln n`` of its number n of pixels.

    Parameters
    ----------
    pixels : ndarray of shape (C,), int
        Pixels of each class in the ground-truth files, at the files' own size.

    Returns
    -------
    ndarray of shape (C,), float64
        Sums to 1, unless no class occurs; 0 for a class that does not occur.
    """
    weights = np.zeros(len(pixels))
    occurs = pixels > 0
    weights[occurs] = 1 / np.log(np.maximum(pixels[occurs], 2))  # ln 1 = 0 has no inverse
    return weights / (weights.sum() or 1)


def row_normalised(confusion: np.ndarray, keep: list[int]) -> np.ndarray:
    """Return the share of each true class's pixels that went to each predicted class.

    Parameters
    ----------
    confusion : ndarray of shape (C + 1, C)
    keep : list of int
        Classes to show; shares are of all the row's pixels, also those predicted as another class.

    Returns
    -------
    ndarray of shape (len(keep), len(keep)), float64, in 0..1
        Rows of classes that do not occur are 0.
    """
    labelled = confusion[:-1]
    return (labelled / np.maximum(labelled.sum(axis=1, keepdims=True), 1))[np.ix_(keep, keep)]


def tissue_shares(counts: np.ndarray, label_set: LabelSet) -> dict[int, float]:
    """Return each class's share of the tissue by its index, the background class left out; 0 without tissue."""
    pixels = {index: int(counts[index]) for index, code in enumerate(label_set.codes) if code != label_set.background}
    tissue = max(sum(pixels.values()), 1)
    return {index: count / tissue for index, count in pixels.items()}
