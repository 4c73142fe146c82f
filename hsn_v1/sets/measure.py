"""Compare an image's masks, new ones or those that a run wrote, with its ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from .. import evaluate
from ..errors import InputError
from ..io import tree
from ..io.masks import Mask, read_mask, read_objects
from ..io.reading import read_json
from ..io.records import version_of
from ..io.writing import write_bytes
from ..labels import STAGES, LabelSet
from ..object_metrics import ObjectSums, object_sums
from .report import ImageResult
from .settings import Settings

Masks = Mapping[tuple[str, str], np.ndarray]  #: class indices (H, W) by label set name and stage


def read_truths(settings: Settings, path: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Return an image's ground truth by label set name; empty if the run uses none.

    Raises InputError if a file is missing or cannot be used.
    """
    if not settings.truth or settings.run_level < 3:
        return {}
    files = {label_set.name: settings.truth_file(path, label_set) for label_set in settings.label_sets}
    for file in files.values():
        if settings.resize_truth == "silently" and not file.exists():  # only in the published calls
            raise InputError(f"{file}: no such ground truth; add it, remove the image, or run with gt_mode off")
    size = None if settings.resize_truth == "mask" else size
    return {s.name: read_mask(files[s.name], s, size, settings.resize_truth) for s in settings.label_sets}


def confusion_matrix(truth: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Return `evaluate.confusion_matrix` of ground truth and a mask, resized to the truth by the nearest pixels."""
    if mask.shape != truth.shape:
        rows, columns = (np.arange(new) * old // new for new, old in zip(truth.shape, mask.shape, strict=True))
        mask = mask[np.ix_(rows, columns)]
    return evaluate.confusion_matrix(truth, mask, classes)


def measure(
    settings: Settings, path: Path, size: tuple[int, int], masks: Masks, truths: Mapping[str, Mask]
) -> ImageResult:
    """Compare the masks of an image of `size` (height, width) px with its ground truth, by label set name, if any.

    Raises InputError if a file of true objects cannot be used.
    """
    classes = {label_set.name: len(label_set) for label_set in settings.label_sets}
    return ImageResult(
        path.name,
        size,
        areas={key: np.bincount(mask.ravel(), minlength=classes[key[0]]) for key, mask in masks.items()},
        confusions={
            (name, stage): confusion_matrix(truths[name].labels, mask, classes[name])
            for (name, stage), mask in masks.items()
            if truths
        },
        objects=compare_objects(settings, path, masks) if truths else {},
        pixels={name: truth.pixels for name, truth in truths.items()},
        notes=tuple(note for truth in truths.values() for note in truth.notes),
    )


def keep(settings: Settings, path: Path, result: ImageResult, note: str) -> None:
    """Write the record of an image whose masks are all written: the results that the masks do not contain."""
    kept = {"scores": result.scores, "unresponsive": result.unresponsive, "note": note, "image": version_of(path)}
    write_bytes(tree.image_record(settings.out, path.name), json.dumps(kept).encode())


def measure_written(settings: Settings, path: Path) -> ImageResult | None:
    """Compare the masks that an earlier run wrote with an image's ground truth; None if a file is damaged.

    Raises the errors of `read_truths` and `measure`.
    """
    try:
        kept = read_json(tree.image_record(settings.out, path.name))
        if kept["image"] != version_of(path):
            return None
        scores, unresponsive, note = kept["scores"], kept["unresponsive"], kept["note"]
        masks = {
            (s.name, stage): read_mask(tree.stage_mask(settings.out, s.name, stage, path.name), s).labels
            for s in settings.label_sets
            for stage in STAGES
        }
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None
    size = next(iter(masks.values())).shape
    result = measure(settings, path, size, masks, read_truths(settings, path, size))
    return replace(result, scores=scores, unresponsive=unresponsive, notes=(*filter(None, [note]), *result.notes))


# --- Objects ---------------------------------------------------------------------------------------------------------


def compare_objects(settings: Settings, path: Path, masks: Masks) -> dict[tuple[str, str], ObjectSums]:
    """Compare the final masks' objects with the true ones, for label sets with a file of true objects.

    Keys are a label set's name and a key of `separations`. Raises InputError if the file cannot be used.
    """
    sums = {}
    for label_set in settings.label_sets:
        folder = label_set.true_objects
        if folder and (file := settings.truth / folder / f"{path.stem}.bmp").exists():
            mask = masks[label_set.name, STAGES[-1]]
            compared = object_sums_of(mask, read_objects(file, *mask.shape), label_set)
            sums |= {(label_set.name, kind): sums_of_kind for kind, sums_of_kind in compared.items()}
    return sums


def object_sums_of(mask: np.ndarray, truth: np.ndarray, label_set: LabelSet) -> dict[str, ObjectSums]:
    """Compare a label map's objects, by each method of `separations`, with labels of the true objects."""
    objects = object_mask(mask, label_set)
    return {kind: object_sums(separate(objects), truth) for kind, separate in separations(label_set).items()}


def object_mask(mask: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Return 1 where a label map has the class that comes in objects, else 0, as uint8."""
    return (mask == label_set.codes.index(label_set.objects)).astype(np.uint8)


def connected_components(mask: np.ndarray) -> np.ndarray:
    """Label the 8-connected components of a mask: (H, W) int, 0 outside all objects."""
    from skimage.measure import label  # a tenth of a second, and few masks have objects

    return label(mask, connectivity=2)


def separate_objects(mask: np.ndarray) -> np.ndarray:
    """Label the objects of a mask as the published code does: smoothed, cut at the mean, 8-connected.

    Parameters
    ----------
    mask : ndarray of shape (H, W), uint8, 0 or 1

    Returns
    -------
    ndarray of shape (H, W), int
        0 outside all objects.

    Examples
    --------
    >>> separate_objects(np.array([[1, 1, 0, 0, 1]], np.uint8)).tolist()
    [[1, 1, 0, 0, 2]]
    """
    from skimage.filters import gaussian

    smooth = gaussian(mask.astype(float), sigma=0.5, mode="nearest")
    return connected_components(smooth > smooth.mean())


def split_objects(mask: np.ndarray, distance: int) -> np.ndarray:
    """Label the objects of a mask (H, W), and split touching ones by a watershed, where they are narrowest.

    The centres of two touching objects are at least `distance` px from each other. Objects smaller than
    ``(distance / 2) ** 2`` px are removed. Labels are 0 outside all objects.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian
    from skimage.segmentation import relabel_sequential, watershed

    parts = connected_components(mask)
    depth = gaussian(distance_transform_edt(mask), sigma=distance / 8)  # without the peaks of a ragged edge
    middles = peak_local_max(depth, min_distance=distance, labels=parts, exclude_border=False)
    markers = np.zeros_like(parts)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    objects = watershed(-depth, markers, mask=mask > 0)
    objects[np.bincount(objects.ravel())[objects] < (distance / 2) ** 2] = 0
    return relabel_sequential(objects)[0]


#: Functions that label the objects of a mask: as it is, and after the published code's post-processing.
OBJECTS = {"connected components": connected_components, "published post-processing": separate_objects}


def separations(label_set: LabelSet) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the functions that label the objects of a label set's masks: `OBJECTS`, and a watershed if it asks so."""
    split = {"watershed": partial(split_objects, distance=label_set.split_objects)} if label_set.split_objects else {}
    return OBJECTS | split
