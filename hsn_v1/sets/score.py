"""Masks in one folder against ground truth in another, whichever program made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import evaluate
from ..errors import InputError, merge_notes
from ..io import tree
from ..io.masks import MASK_SUFFIXES, Mask, check_fit, read_mask
from ..io.run_json import RECORD
from ..labels import LabelSet
from ..slide_io.label_maps import label_map_size, read_thumbnail

#: Name of the metrics of the paper, next to `evaluate.PROTOCOLS`.
PUBLISHED = "HistoSegNet"

LABEL_MAP = ".ome.tif"

#: What may be left of an image's name in its mask's: the image's ending, or the mask's own.
ENDINGS = (*MASK_SUFFIXES, ".jpg", ".jpeg")


@dataclass(frozen=True)
class Score:
    """What masks are worth.

    Attributes
    ----------
    confusion : ndarray of shape (C + 1, C + 1), int64
        Over all images.
    pixels : ndarray of shape (C,), int64
        Pixels of each class in the ground truth.
    images : int
        Number of images that were compared.
    failures, notes : tuple of str
        What could not be compared, and what else the user should know.
    """

    confusion: np.ndarray
    pixels: np.ndarray
    images: int
    failures: tuple[str, ...]
    notes: tuple[str, ...]

    def absent(self) -> list[int]:
        """Return the classes that are neither in the ground truth nor predicted."""
        return sorted({*range(len(self.pixels))} - {*evaluate.occurring(self.confusion)})

    def table(self, label_set: LabelSet, protocols: Iterable[str]) -> dict[tuple[str, str], dict[str, float]]:
        """Return values by protocol of each metric and class (or ""), with those of the paper as `PUBLISHED`."""
        published = dict(zip(label_set.codes, evaluate.iou(self.confusion).tolist(), strict=True))
        rows = {("IoU", code): {PUBLISHED: value} for code, value in published.items()}
        for protocol in protocols:
            for metric, code, value in evaluate.named_metrics(self.confusion, label_set, protocol):
                rows.setdefault((metric, code), {})[protocol] = value
        weights = evaluate.frequency_weights(self.pixels)
        rows["mIoU", ""][PUBLISHED] = evaluate.mean_iou(self.confusion)
        rows["fIoU", ""] = {PUBLISHED: evaluate.frequency_weighted_iou(self.confusion, weights)}
        return rows


def score_folder(
    prediction: Path,
    truth: Path,
    label_set: LabelSet,
    resize: bool = False,
    track: Callable[[list], Iterable] = iter,
) -> Score:
    """Compare the masks of a folder with the ground truth of another.

    Masks belong together by their names, whatever their endings. Both may be in the label set's colours or hold class
    indices; see `read_truth`.

    Parameters
    ----------
    prediction, truth : Path
        Folders of masks; or a run's folder, or what ``hsn-v1 segment`` wrote, and one with a folder for each label
        set's name. Label maps of ``segment``, which may have the classifier's scale, are brought to the truth's size.
    label_set : LabelSet
    resize : bool
        Whether ground truth of another size is resized, as published; else it is an error.
    track : callable
        Passes the files of ground truth on, and may show how far it has come.

    Raises
    ------
    InputError
        If a folder is missing or has no masks, or if none could be compared.
    """
    predictions = _label_maps(prediction, label_set) or _masks(
        prediction, [tree.final_masks(prediction, label_set.name), prediction / label_set.name, prediction]
    )
    truths = _masks(truth, [truth / label_set.name, truth])
    side = len(label_set) + 1
    confusion, pixels = np.zeros((side, side), np.int64), np.zeros(side - 1, np.int64)
    failures, notes = [], []
    for name, path in track(list(truths.items())):
        try:
            if name not in predictions:
                raise InputError(f"{path}: {prediction} has no mask of this name; predict it, or take the truth away")
            predicted, true = _read_pair(predictions[name], path, label_set, "silently" if resize else "never")
        except InputError as error:
            failures.append(str(error))
            continue
        confusion += evaluate.confusion_matrix(true.labels, predicted.labels, side - 1)
        pixels += true.pixels
        notes += [*true.notes, *predicted.notes]
    if len(failures) == len(truths):
        raise InputError(failures[0])
    if surplus := sorted(predictions.keys() - truths.keys()):
        notes.append(f"{predictions[surplus[0]]}: no ground truth of this name; {len(surplus)} such masks do not count")
    return Score(confusion, pixels, len(truths) - len(failures), tuple(failures), tuple(merge_notes(notes)))


def _label_maps(folder: Path, label_set: LabelSet) -> dict[str, Path]:
    """Return the label maps that ``hsn-v1 segment`` wrote into a folder, by their inputs' names without endings."""
    found = sorted(folder.glob(f"*/{label_set.name}/*{LABEL_MAP}"))
    return {_name(path.parents[1].name): path for path in found if (path.parents[1] / RECORD).exists()}


def _read_pair(path: Path, truth: Path, label_set: LabelSet, resize: str) -> tuple[Mask, Mask]:
    """Return prediction and ground truth, of the same size; a label map is of no class where it has no tissue."""
    if not path.name.endswith(LABEL_MAP):
        predicted = read_mask(path, label_set)
        return predicted, read_mask(truth, label_set, predicted.labels.shape, resize)
    true, size = read_mask(truth, label_set), label_map_size(path)
    notes = ()
    if size != true.labels.shape:
        check_fit(truth, true.labels.shape, size)
        notes = (f"{path}: {size[1]} x {size[0]} px, brought to the size of its ground truth",)
    labels = np.minimum(read_thumbnail(path, *true.labels.shape), len(label_set))
    return Mask(labels, np.bincount(labels.ravel(), minlength=len(label_set)), notes), true


def _name(file: str) -> str:
    """Return an image's name without the endings that it or its mask may have."""
    name = Path(file).stem
    while Path(name).suffix.lower() in ENDINGS:
        name = Path(name).stem
    return name


def _masks(given: Path, places: list[Path]) -> dict[str, Path]:
    """Return the masks in the first of some folders that is there, by their names without endings."""
    folder = next((place for place in places if place.is_dir()), None)
    if not folder:
        raise InputError(f"{given}: no such folder; it should hold masks")
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in MASK_SUFFIXES and not path.name.startswith("."):
            name = _name(path.name)
            if name in masks:
                raise InputError(f"{path} and {masks[name]} have the same name; keep one of them")
            masks[name] = path
    if not masks:
        raise InputError(f"{folder}: no masks; expected {', '.join(MASK_SUFFIXES)} files")
    return masks
