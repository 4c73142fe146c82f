"""The scores from which on classes are present, out of images with masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from ..classify import Classifier, classify
from ..io.writing import write_bytes
from ..labels import LabelSet
from ..tiles import TileGrid
from .validation_report import equal_error_thresholds

SHARE = 0.05  #: of a tile that a class covers, from which on it is there


def tile_presence(grid: TileGrid, truth: np.ndarray, label_set: LabelSet, outputs: int) -> np.ndarray:
    """Tell which classes are in an image's tiles, each cut as the classifier sees it.

    Parameters
    ----------
    grid : TileGrid
    truth : ndarray of shape (H, W), uint8
        Class indices.
    label_set : LabelSet
    outputs : int
        Number K of the classifier's outputs.

    Returns
    -------
    ndarray of shape (T, K), bool
        False for outputs that are none of the label set's classes.
    """
    present = np.zeros((len(grid), outputs), bool)
    for c in label_set.classified:
        covered = grid.crop((truth == c).astype(np.float32))  # (T, tile, tile)
        present[:, label_set.outputs([c])[0]] = covered.mean(axis=(1, 2)) >= SHARE
    return present


def tune_thresholds(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], classifier: Classifier, label_set: LabelSet, downsample: float
) -> tuple[np.ndarray, list[str]]:
    """Find thresholds on images with masks.

    Parameters
    ----------
    pairs : sequence of (ndarray of shape (H, W, 3), ndarray of shape (H, W))
        Images with their label maps.
    classifier : Classifier
    label_set : LabelSet
    downsample : float
        Factor between the images' scale and the classifier's.

    Returns
    -------
    thresholds : ndarray of shape (K,), float64
        A class that is in all tiles, or in none, keeps its threshold.
    kept : list of str
        Codes of these.
    """
    outputs = len(classifier.labels.outputs)
    targets, scores = [], []
    for truth, _, tiles in classify(((truth, image) for image, truth in pairs), classifier, downsample):
        targets.append(tile_presence(tiles.grid, truth, label_set, outputs))
        scores.append(tiles.scores)
    targets, scores = np.concatenate(targets), np.concatenate(scores)
    told = targets.any(axis=0) & ~targets.all(axis=0)
    thresholds = np.where(told, equal_error_thresholds(targets, scores), classifier.thresholds)
    return thresholds, [code for code, known in zip(classifier.labels.codes, told, strict=True) if not known]


def write_thresholds(path: Path, thresholds: np.ndarray) -> None:
    """Write a classifier's thresholds, as published."""
    content = io.BytesIO()
    savemat(content, {"optimalScoreThresh": np.reshape(thresholds, (1, -1))})
    write_bytes(path, content.getvalue())
