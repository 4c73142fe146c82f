"""Ground truth of slides, and how well a segmentation agrees with it inside the annotated regions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..labels import LabelSet
from .library import Entry
from .masks import Frame, annotation_strips, mask_strips, read_annotations
from .pyramids import TILE, MemoryPyramid, Pyramid, build_pyramid, decode

MASKS = (".png", ".tif", ".tiff", ".bmp")  #: endings of masks


@dataclass(frozen=True)
class Truth:
    """Ground truth as a label map: the number of classes where nothing is annotated.

    Attributes
    ----------
    pyramid : MemoryPyramid
    notes : tuple of str
        What was left out.
    """

    pyramid: MemoryPyramid
    notes: tuple[str, ...] = ()


def find_truth(entry: Entry, label_set: str, folder: Path | None) -> Path | None:
    """Return the file of an entry's ground truth for a label set, or None.

    In the folder that the user names: ``SLIDE.geojson``, or a mask ``SLIDE_<label set>.png`` or ``<label
    set>/SLIDE.png``, where SLIDE is the slide's file name with or without its ending. Of a demo set: the file that the
    run compared with.
    """
    if entry.image:
        root = Path(entry.record["truth"]) if entry.record.get("truth") else None
        names = entry.image, *(f"{Path(entry.image).stem}{ending}" for ending in MASKS)
        return _inside(root, [f"{label_set}/{name}" for name in names]) if root else None
    if folder is None:
        return None
    names = [
        candidate
        for stem in dict.fromkeys((entry.title, Path(entry.title).stem))
        for candidate in (
            *(f"{label_set}/{stem}{ending}" for ending in (".geojson", *MASKS)),
            *(f"{stem}_{label_set}{ending}" for ending in (".geojson", *MASKS)),
            f"{stem}.geojson",
            *(f"{stem}{ending}" for ending in MASKS),
        )
    ]
    return _inside(folder, names)


def _inside(root: Path, names: list[str]) -> Path | None:
    """Return the first of some files that is there, unless it is a link that leads out of the folder."""
    for path in (root / name for name in names):
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path
    return None


def read_truth(path: Path, label_set: LabelSet, frame: Frame) -> Truth:
    """Read ground truth at the scale of a label map.

    Raises
    ------
    InputError
        If the file cannot be read as annotations or as a mask.
    """
    notes: tuple[str, ...] = ()
    if path.suffix.lower() == ".geojson":
        annotations = read_annotations(path, label_set)
        strips = annotation_strips(annotations, frame, len(label_set))
        notes = tuple(
            f"{path.name}: {count} annotations of {name}, which is no class of {label_set.name}, are left out"
            for name, count in annotations.unknown.items()
        )
    else:
        strips = mask_strips(path, label_set, frame.rows, frame.columns)
    return Truth(build_pyramid(strips, frame.rows, frame.columns), notes)


def confusion(truth: Pyramid, prediction: Pyramid, label_set: LabelSet) -> np.ndarray:
    """Count the annotated pixels of each pair of true and predicted class.

    Returns
    -------
    ndarray of shape (C, C + 1), int64
        The last column is for pixels where the prediction has no tissue; they count as the background class, where
        there is one.
    """
    classes, (height, width) = len(label_set), truth.size
    counts = np.zeros((classes, classes + 1), np.int64)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            inside = np.s_[: height - top, : width - left]
            true = decode(truth.tile(0, top // TILE, left // TILE))[inside]
            annotated = true < classes
            if annotated.any():
                found = decode(prediction.tile(0, top // TILE, left // TILE))[inside]
                pairs = true[annotated].astype(np.int64) * (classes + 1) + np.minimum(found[annotated], classes)
                counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
    if label_set.background:
        counts[:, label_set.codes.index(label_set.background)] += counts[:, -1]
        counts[:, -1] = 0
    return counts


def scores(counts: np.ndarray, label_set: LabelSet) -> dict[str, dict]:
    """Return the IoU of each class that is annotated or predicted there, and their mean over the annotated classes."""
    intersection, true, found = np.diagonal(counts), counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    union = true + found - intersection
    values = {code: intersection[c] / union[c] for c, code in enumerate(label_set.codes) if union[c]}
    present = [values[code] for c, code in enumerate(label_set.codes) if true[c]]
    return {
        "iou": {code: round(float(value), 4) for code, value in values.items()},
        "pixels": {code: int(true[c]) for c, code in enumerate(label_set.codes) if true[c]},
        "miou": round(float(np.mean(present)), 4) if present else None,
        "correct": round(float(intersection.sum() / max(true.sum(), 1)), 4),
    }
