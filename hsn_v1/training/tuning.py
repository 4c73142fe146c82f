"""Tune a classifier's thresholds and the CRF's settings on images with masks."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from ..classify import Classifier, classify
from ..densecrf import CRF
from ..errors import InputError
from ..evaluate import confusion_matrix, mean_iou, mean_iou_present
from ..hsn_v1 import segment, winners
from ..io.images import read_image
from ..io.reading import read_object
from ..io.writing import write_bytes, write_table
from ..labels import LabelSet, Taxonomy
from ..parallel import available_cores
from ..progress import track
from ..tiles import TileGrid
from .cut_patches import read_context
from .patch_labels import read_patch_labels
from .validation_report import equal_error_thresholds

SIDE = 480  #: least side of a mosaic, in px of the patches
REGION = 80  #: least side of a mosaic's regions of one class, in px of the patches

SHARE = 0.05  #: a class that covers at least this share of a tile is present in it

#: Least and greatest value to try of each CRF setting; values are drawn evenly over the logarithm.
RANGES = {
    "gauss_sxy": (0.7, 10),
    "gauss_compat": (0.5, 200),
    "bilat_sxy": (3, 80),
    "bilat_srgb": (3, 150),
    "bilat_compat": (0.5, 200),
}


@dataclass(frozen=True)
class TuningImage:
    """An image with its ground truth, and its maps before the CRF."""

    maps: np.ndarray  #: (C, H, W) float32 in 0..1: adjusted maps
    image: np.ndarray  #: (H, W, 3) uint8, RGB
    truth: np.ndarray  #: (H, W) uint8: class indices; C where the pixel is unlabelled


def mosaics(
    folder: Path, taxonomy: Taxonomy, label_set: LabelSet, count: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compose images of patches with one class of a label set each, without their margins.

    Borders between classes are then known without any mask, as in the training images of HisynSeg (Fang et al., IEEE
    TMI 2024).

    `folder` holds patches and labels of the classes of `taxonomy`, as for training; all are cropped or mirrored to the
    size of the first. Only classes that the classifier scores occur. Returns `count` images, (H, H, 3) uint8, each with
    its class indices, (H, H) uint8. Raises InputError if fewer than two classes have patches of one class alone, or if
    a patch cannot be read.
    """
    table = read_patch_labels(folder, None, taxonomy.codes)
    missing = [code for code in taxonomy.codes if code not in table.columns]
    if missing:
        raise InputError(f"{table.source}: no labels of {missing[0]}; expected those of {', '.join(taxonomy.codes)}")
    paths = np.array(list(table.cells), object)
    present = table.of([label_set.codes[c] for c in label_set.classified])
    alone = present.sum(axis=1) == 1
    patches_of = {c: paths[alone & has_class] for c, has_class in zip(label_set.classified, present.T, strict=True)}
    classes = [c for c, members in patches_of.items() if len(members)]
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
    """Read a patch, and return it without its margin, mirrored to `size` if smaller."""
    image, _ = read_image(path)
    image = image[context:, context:][:size, :size]
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, size - height, 0, size - width, cv2.BORDER_REFLECT)


def tile_presence(grid: TileGrid, truth: np.ndarray, label_set: LabelSet, outputs: int) -> np.ndarray:
    """Return which of K outputs' classes are in the T tiles of an image, as (T, K) bool.

    `truth`, (H, W) uint8, are indices of the label set's classes; it is cut into tiles as the image is for the
    classifier. Outputs of other classes are in no tile.
    """
    present = np.zeros((len(grid), outputs), bool)
    for c in label_set.classified:
        covered = grid.crop((truth == c).astype(np.float32))  # (T, tile, tile)
        present[:, label_set.outputs([c])[0]] = covered.mean(axis=(1, 2)) >= SHARE
    return present


def tune_thresholds(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], classifier: Classifier, label_set: LabelSet, downsample: float
) -> tuple[np.ndarray, list[str]]:
    """Choose a classifier's thresholds on images, (H, W, 3), with label maps, (H, W).

    `downsample` is the factor between the images' scale and the classifier's. Returns the thresholds, (K,) float64, and
    the codes of the classes that keep their threshold because all tiles or none have them.
    """
    outputs = len(classifier.labels.outputs)
    targets, scores = [], []
    for truth, _, tiles in classify(((truth, image) for image, truth in pairs), classifier, downsample):
        targets.append(tile_presence(tiles.grid, truth, label_set, outputs))
        scores.append(tiles.scores)
    targets, scores = np.concatenate(targets), np.concatenate(scores)
    varies = targets.any(axis=0) & ~targets.all(axis=0)
    thresholds = np.where(varies, equal_error_thresholds(targets, scores), classifier.thresholds)
    return thresholds, [classifier.labels.codes[i] for i in np.flatnonzero(~varies)]


def write_thresholds(path: Path, thresholds: np.ndarray) -> None:
    """Write a classifier's thresholds in the published format, a MATLAB file."""
    content = io.BytesIO()
    savemat(content, {"optimalScoreThresh": np.reshape(thresholds, (1, -1))})
    write_bytes(path, content.getvalue())


def adjusted(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], classifier: Classifier, label_set: LabelSet, downsample: float
) -> list[TuningImage]:
    """Segment images with their label maps up to the CRF."""
    stream = ((truth, image) for image, truth in pairs)
    return [
        TuningImage(dict(segment(image, tiles, [label_set], {}))[label_set.name].maps, image, truth)
        for truth, image, tiles in classify(stream, classifier, downsample)
    ]


def settings(crf: CRF) -> list[float]:
    """Return a CRF's tuned settings, in the order of the published files."""
    return [getattr(crf, name) for name in RANGES]


def draw_settings(count: int, seed: int, around: CRF | None = None) -> list[CRF]:
    """Draw CRF settings evenly over the logarithm of `RANGES`, or around given ones, with a spread of about a fifth."""
    from scipy.stats import norm, qmc

    low, high = np.log(np.array(list(RANGES.values()))).T
    points = qmc.LatinHypercube(len(RANGES), rng=seed).random(count)  # (count, settings) in 0..1
    logs = low + (high - low) * points
    if around is not None:
        logs = np.clip(np.log(settings(around)) + 0.2 * norm.ppf(points), low, high)
    return [CRF(*row) for row in np.exp(logs).round(2).tolist()]


def confusion_of(tuning: Sequence[TuningImage], crf: CRF | None = None) -> np.ndarray:
    """Return the confusion matrix, (C + 1, C + 1), over all images, of masks after `crf`, or without a CRF."""
    masks = (winners(crf(image.maps, image.image) if crf else image.maps) for image in tuning)
    return sum(confusion_matrix(image.truth, mask, len(image.maps)) for image, mask in zip(tuning, masks, strict=True))


def search(
    tuning: Sequence[TuningImage], trials: int, seed: int, quiet: bool = False, record: Path | None = None
) -> list[tuple[CRF, np.ndarray]]:
    """Try `trials` CRF settings in parallel; the second half is drawn around the best of the first.

    `record` is a file that each finished trial is written to; trials that it holds of the same maps are not repeated.
    Returns all settings with their confusion matrix, (C + 1, C + 1), over all images, sorted by descending mIoU of the
    present classes.
    """
    maps = _digest(tuning)
    tried = _read_record(record, maps) if record else {}

    def try_all(crfs: Sequence[CRF], what: str) -> list[tuple[CRF, np.ndarray]]:
        missing = [crf for crf in crfs if crf not in tried]
        what = f"{what} search, {len(missing)} setting{'s' * (len(missing) != 1)}"
        with ThreadPoolExecutor(available_cores()) as pool:  # the CRF's compiled code releases the GIL
            done = pool.map(partial(confusion_of, tuning), missing)
            for crf, confusion in zip(missing, track(done, what, len(missing), quiet or not missing), strict=True):
                tried[crf] = confusion
                if record:
                    _write_record(record, maps, tried)
        return sorted(((crf, tried[crf]) for crf in crfs), key=lambda pair: -mean_iou_present(pair[1]))

    wide = [CRF(), *draw_settings((trials + 1) // 2 - 1, seed)]
    best = try_all(wide, "wide")[0][0]
    narrow = draw_settings(trials // 2, seed + 1, best)
    try_all(narrow, "narrow")
    return try_all(list(dict.fromkeys([*wide, *narrow])), "all")


def _digest(tuning: Sequence[TuningImage]) -> str:
    """Return a digest of the maps, images and label maps that the trials' results depend on."""
    digest = hashlib.sha256()
    for image in tuning:
        for part in (image.maps, image.image, image.truth):
            digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


def _read_record(record: Path, maps: str) -> dict[CRF, np.ndarray]:
    facts = read_object(record)
    try:
        kept = facts["trials"] if facts["maps"] == maps else []
        return {CRF(*row): np.array(confusion, np.int64) for row, confusion in kept}
    except (KeyError, TypeError, ValueError):
        return {}


def _write_record(record: Path, maps: str, tried: Mapping[CRF, np.ndarray]) -> None:
    trials = [(settings(crf), confusion.tolist()) for crf, confusion in tried.items()]
    write_bytes(record, json.dumps({"maps": maps, "trials": trials}).encode())


def write_crf(path: Path, crf: CRF) -> None:
    """Write a CRF's settings in the published format, a NumPy file of (1, 6)."""
    content = io.BytesIO()
    np.save(content, np.array([[*settings(crf), crf.iterations]]))
    write_bytes(path, content.getvalue())


def write_trials(table: Path, tried: list[tuple[CRF, np.ndarray]]) -> None:
    """Write the settings and scores of all trials, in their order, as CSV."""
    rows = [
        [*settings(crf), f"{mean_iou_present(confusion):.5f}", f"{mean_iou(confusion):.5f}"] for crf, confusion in tried
    ]
    write_table(table, [[*RANGES, "mIoU of present classes", "mIoU"], *rows])
