"""Search the CRF's settings for a classifier, on images with ground truth."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..classify import Classifier, classify
from ..densecrf import CRF
from ..errors import InputError
from ..evaluate import confusion_matrix, mean_iou, mean_iou_present
from ..hsn_v1 import segment, winners
from ..io.images import find_images, read_image
from ..io.masks import find_mask, read_mask
from ..io.writing import write_bytes, write_table
from ..labels import LabelSet
from ..parallel import in_parallel

#: Least and greatest value that is tried of each setting; values are spread evenly over the logarithm.
RANGES = {
    "gauss_sxy": (0.7, 10),
    "gauss_compat": (0.5, 60),
    "bilat_sxy": (3, 30),
    "bilat_srgb": (3, 150),
    "bilat_compat": (0.5, 60),
}


@dataclass(frozen=True)
class TuningImage:
    """An image whose segmentation is known, and how far the method is with it.

    Attributes
    ----------
    maps : ndarray of shape (C, H, W), float32, in 0..1
        Adjusted maps.
    image : ndarray of shape (H, W, 3), uint8
    truth : ndarray of shape (H, W), uint8
        Class indices; C where the pixel is unlabelled.
    """

    maps: np.ndarray
    image: np.ndarray
    truth: np.ndarray


def truth_folder(truth: Path, label_set: LabelSet, label_sets: Sequence[LabelSet]) -> Path | None:
    """Return where a label set's masks are, if there are any.

    They are in a folder of the label set's name, or in `truth` itself if the classifier has no other label set.
    """
    if (truth / label_set.name).is_dir():
        return truth / label_set.name
    return truth if len(label_sets) == 1 and truth.is_dir() else None


def read_tuning_set(
    images: Path, truth: Path, label_set: LabelSet
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """Return images with their label maps, and what was left out and why.

    Raises
    ------
    InputError
        If none can be read.
    """
    pairs, notes = [], []
    for path in find_images(images, "any"):
        try:
            image, _ = read_image(path)
            mask = read_mask(find_mask(truth, path.name), label_set, image.shape[:2])
            pairs.append((image, mask.labels))
        except InputError as error:
            notes.append(f"left out: {error}")
    if not pairs:
        raise InputError(notes[0].removeprefix("left out: "))
    return pairs, notes


def adjusted(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], classifier: Classifier, label_set: LabelSet, downsample: float
) -> list[TuningImage]:
    """Take images with their label maps as far as the CRF."""
    stream = ((truth, image) for image, truth in pairs)
    return [
        TuningImage(dict(segment(image, tiles, [label_set], {}))[label_set.name].maps, image, truth)
        for truth, image, tiles in classify(stream, classifier, downsample)
    ]


def settings(crf: CRF) -> list[float]:
    """Return the settings that are searched, in the order of the published files."""
    return [getattr(crf, name) for name in RANGES]


def draw_settings(count: int, seed: int, around: CRF | None = None) -> list[CRF]:
    """Draw CRF settings: spread evenly over `RANGES`, or within about a fifth of given ones."""
    from scipy.stats import norm, qmc

    low, high = np.log(np.array(list(RANGES.values()))).T
    points = qmc.LatinHypercube(len(RANGES), rng=seed).random(count)  # (count, settings) in 0..1
    logs = low + (high - low) * points
    if around is not None:
        logs = np.clip(np.log(settings(around)) + 0.2 * norm.ppf(points), low, high)
    return [CRF(*row) for row in np.exp(logs).round(2).tolist()]


def try_settings(one: TuningImage, crfs: Sequence[CRF]) -> np.ndarray:
    """Return the confusion matrix that each of some settings gives on an image, as (len(crfs), C + 1, C + 1)."""
    classes = len(one.maps)
    return np.stack([confusion_matrix(one.truth, winners(crf(one.maps, one.image)), classes) for crf in crfs])


def search(tuning: Sequence[TuningImage], trials: int, seed: int, quiet: bool = False) -> list[tuple[CRF, np.ndarray]]:
    """Try settings, the second half of them around the best of the first; in parallel.

    Parameters
    ----------
    tuning : sequence of TuningImage
    trials : int
    seed : int
    quiet : bool
        Show no progress.

    Returns
    -------
    list of (CRF, ndarray of shape (C + 1, C + 1))
        All settings with their confusion matrix over all images, best mIoU of the present classes first.
    """
    tried: list[tuple[CRF, np.ndarray]] = []
    wide = [CRF(), *draw_settings((trials + 1) // 2 - 1, seed)]
    for what, crfs in (("wide search", wide), ("narrow search", None)):
        if crfs is None:
            crfs = draw_settings(trials // 2, seed + 1, tried[0][0])
        if crfs:
            jobs = [(one, crfs) for one in tuning]
            done = in_parallel(try_settings, jobs, f"{what}, {len(crfs)} settings", quiet)
            tried += zip(crfs, sum(done), strict=True)
            tried.sort(key=lambda pair: -mean_iou_present(pair[1]))
    return tried


def without_crf(tuning: Sequence[TuningImage]) -> np.ndarray:
    """Return the confusion matrix (C + 1, C + 1) of the masks before the CRF."""
    return sum(confusion_matrix(one.truth, winners(one.maps), len(one.maps)) for one in tuning)


def write_results(path: Path, table: Path, tried: list[tuple[CRF, np.ndarray]]) -> None:
    """Write the best settings as the published file (1, 6), and all of them as a CSV, best first."""
    content = io.BytesIO()
    np.save(content, np.array([[*settings(tried[0][0]), tried[0][0].iterations]]))
    write_bytes(path, content.getvalue())
    rows = [
        [*settings(crf), f"{mean_iou_present(confusion):.5f}", f"{mean_iou(confusion):.5f}"] for crf, confusion in tried
    ]
    write_table(table, [[*RANGES, "mIoU of present classes", "mIoU"], *rows])
