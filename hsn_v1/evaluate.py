"""Metrics of a segmentation, from one confusion matrix per label set and stage, summed over the images.

A confusion matrix has C + 1 rows (ground truth) and C + 1 columns (prediction). The last row and column are for pixels
of no class. Three sets of metrics exist, whose numbers must not be mixed (docs/benchmarks.md): HistoSegNet's own, as
published, and the two `PROTOCOLS` of the benchmarks with patch labels. All metrics also take matrices with leading
axes, such as one matrix per bootstrap draw (`intervals`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .labels import LabelSet

#: Counting rules of the benchmarks with patch labels; see `protocol_metrics`.
PROTOCOLS = ("excluded", "background")

#: Name of the paper's own metrics, beside the `PROTOCOLS`.
PUBLISHED = "HistoSegNet"


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each pair of a true and a predicted class.

    Parameters
    ----------
    truth, prediction : ndarray of shape (H, W), int
        Class indices; `classes` marks a pixel of no class.
    classes : int
        Number C of classes.

    Returns
    -------
    ndarray of shape (C + 1, C + 1), int64

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"ground truth of shape {truth.shape} and prediction of shape {prediction.shape} differ")
    side = classes + 1
    pairs = truth.astype(np.int64) * side + prediction
    return np.bincount(pairs.ravel(), minlength=side**2).reshape(side, side)


def class_ious(confusion: np.ndarray) -> np.ndarray:
    """Return each class's intersection over union.

    A prediction on an unlabelled pixel counts in the union of the predicted class; a class that is
    neither in the ground truth nor predicted has 0 (docs/method.md, "Evaluation").

    Parameters
    ----------
    confusion : ndarray of shape (..., C + 1, C + 1)

    Returns
    -------
    ndarray of shape (..., C), float64, in 0..1
    """
    hits, truth, predicted = _counts(confusion)
    return hits / (truth + predicted - hits + 1e-12)


def _counts(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each class's correct, true and predicted pixels, each of shape (..., C)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)[..., :-1]
    return hits, confusion[..., :-1, :].sum(axis=-1), confusion[..., :-1].sum(axis=-2)


def occurring(confusion: np.ndarray) -> list[int]:
    """Return the indices of the classes in the ground truth or prediction, from a matrix of shape (C + 1, C + 1)."""
    return np.flatnonzero(confusion[:-1].any(axis=1) | confusion[:, :-1].any(axis=0)).tolist()


def occurring_ious(confusion: np.ndarray, label_set: LabelSet) -> dict[str, float]:
    """Return the IoU of each class in the ground truth or prediction, by its code."""
    ious = class_ious(confusion).tolist()
    return {label_set.codes[c]: ious[c] for c in occurring(confusion)}


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Return mIoU over all classes, absent ones included."""
    return class_ious(confusion).mean(axis=-1)


def mean_iou_present(confusion: np.ndarray) -> np.ndarray:
    """Return mIoU over the classes in the ground truth; 0 if it has none."""
    present = confusion[..., :-1, :].any(axis=-1)
    return (class_ious(confusion) * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)


def frequency_weighted_iou(confusion: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return fIoU, the sum of the classes' IoU times their `frequency_weights`."""
    return np.vecdot(class_ious(confusion), weights)


def frequency_weights(pixels: np.ndarray) -> np.ndarray:
    """Return each class's weight in fIoU: proportional to ``1 / ln n`` of its number n of pixels.

    Parameters
    ----------
    pixels : ndarray of shape (..., C), int
        Pixels of each class in the ground-truth files, at the files' own size.

    Returns
    -------
    ndarray of shape (..., C), float64
        Sums to 1, unless no class occurs; 0 for a class that does not occur.
    """
    weights = np.where(pixels > 0, 1 / np.log(np.maximum(pixels, 2)), 0)  # ln 1 = 0 has no inverse
    sums = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(sums > 0, sums, 1)


def excluded_index(label_set: LabelSet) -> int:
    """Return the index to exclude in `protocol_metrics`: the background class's, or C (no class) if there is none."""
    return label_set.codes.index(label_set.background) if label_set.background else len(label_set)


def protocol_metrics(confusion: np.ndarray, excluded: int, protocol: str) -> dict[str, np.ndarray]:
    """Return the metrics of the benchmarks with patch labels.

    Parameters
    ----------
    confusion : ndarray of shape (..., C + 1, C + 1)
    excluded : int
        See `excluded_index`.
    protocol : str
        One of `PROTOCOLS`. ``excluded``: pixels whose ground truth is the excluded index do not count at all.
        ``background``: the excluded index is a class of its own. It counts in the other classes' unions and in the
        pixel accuracy, but not in the means. Other unlabelled pixels never count.

    Returns
    -------
    dict of str to ndarray of shape (..., C) or (...), float64, in 0..1
        ``IoU`` and ``Dice`` of each class, nan for the excluded class and for one that is neither in the ground truth
        nor predicted; ``mIoU`` and ``mean Dice`` over the others, nan if there are none; ``fwIoU``, weighted by the
        classes' shares of the true pixels; ``pixel accuracy``, the share of the counted pixels that are correct.
    """
    counted = np.array(confusion, np.float64)
    unlabelled = counted.shape[-1] - 1
    ignored = {excluded, unlabelled} if protocol == "excluded" else {unlabelled} - {excluded}
    counted[..., [*ignored], :] = 0
    hits, truth, predicted = _counts(counted)
    with np.errstate(invalid="ignore"):  # 0 / 0, a score over no class or no pixel, is nan
        iou, dice = hits / (truth + predicted - hits), 2 * hits / (truth + predicted)
        if excluded < unlabelled:
            iou[..., excluded] = dice[..., excluded] = np.nan
        present = ~np.isnan(iou)
        classes, shares = present.sum(axis=-1), truth * present
        return {
            "IoU": iou,
            "Dice": dice,
            "mIoU": np.nansum(iou, axis=-1) / classes,
            "mean Dice": np.nansum(dice, axis=-1) / classes,
            "fwIoU": np.nansum(shares * iou, axis=-1) / shares.sum(axis=-1),
            "pixel accuracy": np.trace(counted, axis1=-2, axis2=-1) / counted.sum(axis=(-2, -1)),
        }


def named_metrics(confusion: np.ndarray, label_set: LabelSet, protocol: str) -> list[tuple[str, str, np.ndarray]]:
    """Return `protocol_metrics` as (metric, class or "", value of shape (...)) tuples, without the excluded class."""
    excluded = excluded_index(label_set)
    metrics = protocol_metrics(confusion, excluded, protocol)
    classes = [(c, code) for c, code in enumerate(label_set.codes) if c != excluded]
    per_class = [(name, code, metrics[name][..., c]) for name in ("IoU", "Dice") for c, code in classes]
    return per_class + [(name, "", value) for name, value in metrics.items() if name not in ("IoU", "Dice")]


def all_metrics(
    confusion: np.ndarray, pixels: np.ndarray, label_set: LabelSet, protocols: Iterable[str] = PROTOCOLS
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Return all metrics: by metric and class (or ""), then by protocol; the paper's own are under `PUBLISHED`.

    Parameters
    ----------
    confusion : ndarray of shape (..., C + 1, C + 1)
    pixels : ndarray of shape (..., C)
        See `frequency_weights`.
    label_set : LabelSet
    protocols : iterable of str
        A choice of `PROTOCOLS`.
    """
    ious = class_ious(confusion)
    rows = {("IoU", code): {PUBLISHED: ious[..., c]} for c, code in enumerate(label_set.codes)}
    for protocol in protocols:
        for metric, code, value in named_metrics(confusion, label_set, protocol):
            rows.setdefault((metric, code), {})[protocol] = value
    rows.setdefault(("mIoU", ""), {})[PUBLISHED] = mean_iou(confusion)
    rows["fIoU", ""] = {PUBLISHED: frequency_weighted_iou(confusion, frequency_weights(pixels))}
    return rows


def row_normalised(confusion: np.ndarray, keep: list[int]) -> np.ndarray:
    """Normalise the rows of a confusion matrix: the share of each true class's pixels by predicted class.

    Parameters
    ----------
    confusion : ndarray of shape (C + 1, C + 1)
    keep : list of int
        Classes to return. Each share is of all pixels of its row, including those predicted as a class left out.

    Returns
    -------
    ndarray of shape (len(keep), len(keep)), float64, in 0..1
        Rows of classes that do not occur are 0.
    """
    labelled = confusion[:-1]
    return (labelled / np.maximum(labelled.sum(axis=1, keepdims=True), 1))[np.ix_(keep, keep)]


def tissue_shares(counts: np.ndarray, label_set: LabelSet) -> dict[int, float]:
    """Return each class's share of the tissue by its index, without the background class; 0 if there is no tissue."""
    pixels = {index: int(counts[index]) for index, code in enumerate(label_set.codes) if code != label_set.background}
    tissue = max(sum(pixels.values()), 1)
    return {index: count / tissue for index, count in pixels.items()}
