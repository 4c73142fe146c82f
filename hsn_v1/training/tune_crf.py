"""``python -m hsn_v1 tune-crf``: search the CRF's settings for a classifier, on images with ground truth."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..adp import CLASSIFIER_MPP
from ..densecrf import CRF
from ..evaluate import confusion_matrix, mean_iou, mean_iou_present
from ..files.images import read_image
from ..files.truth import read_truth
from ..files.writing import write_bytes, write_table
from ..hsn_v1 import winners
from ..labels import LabelSet
from ..phantoms import phantom
from ..sets.settings import find_images
from ..workers import available_cores, pool_of

#: Least and greatest value that is tried of each setting; values are spread evenly over the logarithm.
RANGES = {
    "gauss_sxy": (0.7, 10),
    "gauss_compat": (0.5, 60),
    "bilat_sxy": (3, 30),
    "bilat_srgb": (3, 150),
    "bilat_compat": (0.5, 60),
}

#: Phantoms that have a label set's ground truth, and their scale in mpp.
PHANTOMS = {
    "morph": (phantom.patch, CLASSIFIER_MPP),
    "func": (phantom.patch, CLASSIFIER_MPP),
    "glas": (phantom.glas, 0.620),
}


def tuning_phantoms(label_set: LabelSet, count: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Return images and label maps of phantoms that are kept for tuning, and the factor to the classifier's scale."""
    make, mpp = PHANTOMS[label_set.name]
    made = [make(seed) for seed in phantom.SEEDS["tuning"][:count]]
    return [(one.image, one.labels[label_set.name]) for one in made], CLASSIFIER_MPP / mpp


def values(crf: CRF) -> list[float]:
    """Return the settings that are searched, in the order of the published files."""
    return [getattr(crf, name) for name in RANGES]


def read_tuning_set(images: Path, truth: Path, label_set: LabelSet) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and label maps of a folder with ground truth, which has one folder for each label set's name."""
    pairs = []
    for path in find_images(images, "patch"):
        image, _ = read_image(path)
        pairs.append((image, read_truth(truth / label_set.name / path.name, label_set, *image.shape[:2]).labels))
    return pairs


def draw_settings(count: int, rng: np.random.Generator, around: CRF | None = None) -> Iterator[CRF]:
    """Draw CRF settings: anywhere in `RANGES`, or within about a fifth of given ones."""
    low, high = np.log(np.array(list(RANGES.values()))).T
    for _ in range(count):
        logs = rng.uniform(low, high)
        if around is not None:
            logs = np.clip(np.log(values(around)) + rng.normal(0, 0.2, len(logs)), low, high)
        yield CRF(*np.exp(logs).round(2).tolist())


def try_settings(maps: np.ndarray, image: np.ndarray, truth: np.ndarray, crfs: list[CRF]) -> np.ndarray:
    """Return the confusion matrix that each of some settings gives on an image, as (len(crfs), C + 1, C + 1)."""
    return np.stack([confusion_matrix(truth, winners(crf(maps, image)), len(maps)) for crf in crfs])


def search(
    tuning: list[tuple[np.ndarray, np.ndarray, np.ndarray]], trials: int, seed: int
) -> list[tuple[CRF, np.ndarray]]:
    """Try settings at random, the second half of them around the best of the first; in parallel.

    Parameters
    ----------
    tuning : list of (maps, image, truth)
        Adjusted maps (C, H, W), image (H, W, 3) and class indices (H, W) of each image.
    trials : int
    seed : int

    Returns
    -------
    list of (CRF, ndarray of shape (C + 1, C + 1))
        All settings with their confusion matrix over all images, best mIoU of the present classes first.
    """
    from rich.progress import track

    rng = np.random.default_rng(seed)
    pool = pool_of(available_cores())
    tried: list[tuple[CRF, np.ndarray]] = []
    first = [CRF(), *draw_settings((trials + 1) // 2 - 1, rng)]
    for what in ("wide search", "narrow search"):
        crfs = list(draw_settings(trials // 2, rng, tried[0][0])) if tried else first
        if not crfs:  # a single trial
            continue
        jobs = zip(*((*one, crfs) for one in tuning), strict=True)
        done = track(pool.map(try_settings, *jobs), f"{what}, {len(crfs)} settings", len(tuning))
        tried += zip(crfs, sum(done), strict=True)
        tried.sort(key=lambda pair: -mean_iou_present(pair[1]))
    return tried


def write_results(path: Path, table: Path, tried: list[tuple[CRF, np.ndarray]]) -> None:
    """Write the best settings as the published file (1, 6), and all of them as a CSV, best first."""
    settings = io.BytesIO()
    np.save(settings, np.array([[*values(tried[0][0]), tried[0][0].iterations]]))
    write_bytes(path, settings.getvalue())
    rows = [
        [*values(crf), f"{mean_iou_present(confusion):.5f}", f"{mean_iou(confusion):.5f}"] for crf, confusion in tried
    ]
    write_table(table, [[*RANGES, "mIoU of present classes", "mIoU"], *rows])
