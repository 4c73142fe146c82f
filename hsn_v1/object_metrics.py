"""Object metrics of the GlaS challenge: F1, object Dice and object Hausdorff distance, over glands instead of pixels.

Sirinukunwattana et al., "Gland segmentation in colon histology images: The GlaS challenge contest", Medical Image
Analysis, 2017. Each object meets the object of the other side with which it shares the most pixels:

- F1: a predicted object is a true positive if it covers at least half of the true object that it meets. Of P predicted
  and T true objects, F1 = 2 TP / (P + T).
- Object Dice: the Dice index of an object and the one that it meets, 0 without overlap. The mean over the predicted
  objects, weighted by their areas, and that over the true objects are averaged.
- Object Hausdorff: likewise with the Hausdorff distance, in px. An object without overlap meets the object of the least
  Hausdorff distance in its image.

Implementations differ. The conventions here:

- Half is enough: >=, as the challenge's text has it, not >. Two predicted objects that cover one half each of a true
  one are one true positive, and so is one that covers two true ones alike; so F1 is at most 1.
- An object that shares equally many pixels with several takes the best Dice index and the least distance among these,
  so that no metric depends on the order of labels.
- Hausdorff distances are those between all pixels' centres, not between boundaries: a hole, such as a lumen, counts.
- A label is an object, also in several pieces. What the objects of a mask are is up to the caller.
- Several images are pooled, as in the challenge: F1 comes from the sums of the counts, and all objects of all images
  are weighted by area at once. These are no means of the images' metrics.
- Where an image has objects on one side only, they have a Dice index of 0 and, as no distance exists, the image's
  diagonal, which exceeds any; infinity would drown all other images of a pool. A side without objects has no mean, so
  the other's counts alone. Without objects on either side the metrics are 1, 1 and 0: the prediction equals the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import find_objects

if TYPE_CHECKING:
    from scipy.spatial import KDTree

#: Groups of images that have metrics of their own, and the prefixes of their file names.
GROUPS = {"all": "", "test A": "testA_", "test B": "testB_"}

#: Names of the metrics of `object_metrics`; the first two are in 0..1.
METRICS = ("F1", "object Dice", "object Hausdorff (px)")


@dataclass(frozen=True)
class ObjectSums:
    """Sums over the objects of one image or several, which give the metrics; arrays (2,) are (predicted, true)."""

    images: int
    found: int  #: true positives
    objects: np.ndarray  #: (2,) int64, number of objects
    area: np.ndarray  #: (2,) int64, area of all objects in px
    dice: np.ndarray  #: (2,) float64, sum of area times Dice index
    hausdorff: np.ndarray  #: (2,) float64, sum of area times Hausdorff distance, in px


def object_sums(prediction: np.ndarray, truth: np.ndarray) -> ObjectSums:
    """Compare the objects of an image with the true ones.

    Parameters
    ----------
    prediction, truth : ndarray of shape (H, W), int
        One label per object; 0 outside all objects.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction of shape {prediction.shape} and ground truth of shape {truth.shape} differ")
    predicted, true = _objects(prediction), _objects(truth)
    overlap = _overlap(prediction, truth)[np.ix_([p.label for p in predicted], [t.label for t in true])]
    areas = np.array([p.area for p in predicted], int), np.array([t.area for t in true], int)
    dice = 2 * overlap / np.add.outer(*areas)
    covers_half = _most_overlapping(overlap) & (2 * overlap >= areas[1])
    dices = _best_dice(overlap, dice), _best_dice(overlap.T, dice.T)
    farthest, diagonal = cache(_farthest), float(np.hypot(*truth.shape))  # cached, since most pairs meet both ways
    distances = (
        _distances(predicted, true, overlap, farthest, diagonal),
        _distances(true, predicted, overlap.T, farthest, diagonal),
    )
    return ObjectSums(
        images=1,
        found=min(int(covers_half.any(axis=side).sum()) for side in (0, 1)),
        objects=np.array([len(predicted), len(true)]),
        area=np.array([area.sum() for area in areas]),
        dice=np.array([area @ dice for area, dice in zip(areas, dices, strict=True)]),
        hausdorff=np.array([area @ distance for area, distance in zip(areas, distances, strict=True)]),
    )


def pool(sums: Iterable[ObjectSums], weights: np.ndarray | None = None) -> ObjectSums:
    """Add up the sums of N images; with `weights` (D, N) of the images, in D ways."""
    parts = [*sums]
    columns = {field.name: np.array([getattr(part, field.name) for part in parts]) for field in fields(ObjectSums)}
    if weights is None:
        return ObjectSums(**{name: values.sum(axis=0) for name, values in columns.items()})
    return ObjectSums(**{name: np.tensordot(weights, values, 1) for name, values in columns.items()})


def pool_groups(sums: Mapping[str, ObjectSums]) -> dict[str, ObjectSums]:
    """Pool the sums of images, by file name, over each of `GROUPS` that has any."""
    groups = {group: [sums[file] for file in sums if file.startswith(prefix)] for group, prefix in GROUPS.items()}
    return {group: pool(members) for group, members in groups.items() if members}


def object_metrics(sums: ObjectSums) -> dict[str, np.ndarray]:
    """Return F1, object Dice and object Hausdorff distance by name (`METRICS`), one value for each way of pooling."""
    sides = sums.objects > 0
    count, is_empty = np.maximum(sides.sum(axis=-1), 1), ~sides.any(axis=-1)
    f1 = 2 * sums.found / np.maximum(sums.objects.sum(axis=-1), 1) + is_empty
    totals = (sums.dice, sums.hausdorff)
    dice, hausdorff = ((total * sides / np.maximum(sums.area, 1)).sum(axis=-1) / count for total in totals)
    return dict(zip(METRICS, (f1, dice + is_empty, hausdorff), strict=True))


@dataclass(frozen=True, eq=False)
class _Object:
    """An object of a label map: its mask within its bounding box, from `start` to before `stop`."""

    label: int
    start: np.ndarray  # (2,)
    stop: np.ndarray  # (2,)
    mask: np.ndarray  # (h, w), bool

    @cached_property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))

    @cached_property
    def extremes(self) -> np.ndarray:
        """The first and last pixel in each row and in each column, as (n, 2) positions in the image."""
        ends = []
        for mask, order in ((self.mask, (0, 1)), (self.mask.T, (1, 0))):
            lines = np.flatnonzero(mask.any(axis=1))
            first, last = mask[lines].argmax(axis=1), mask.shape[1] - 1 - mask[lines, ::-1].argmax(axis=1)
            ends.extend(np.stack([lines, end], axis=1)[:, order] for end in (first, last))
        return np.concatenate(ends) + self.start

    @cached_property
    def tree(self) -> KDTree:
        from scipy.spatial import KDTree  # not needed for label maps without objects

        return KDTree(self.extremes)

    @cached_property
    def gaps(self) -> np.ndarray:
        """Distance of each pixel of the bounding box from the object, in px."""
        return cv2.distanceTransform((~self.mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _objects(labels: np.ndarray) -> list[_Object]:
    return [
        _Object(k, np.array([s.start for s in box]), np.array([s.stop for s in box]), labels[box] == k)
        for k, box in enumerate(find_objects(labels), 1)
        if box
    ]


def _overlap(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the pixels of each pair of a predicted and a true label, including 0."""
    rows, columns = int(prediction.max(initial=0)) + 1, int(truth.max(initial=0)) + 1
    pairs = prediction.astype(np.int64) * columns + truth
    return np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)


def _most_overlapping(overlap: np.ndarray) -> np.ndarray:
    """Mark the objects (columns) that share the most pixels with each object (row); all of them, if none shares any."""
    return overlap == overlap.max(axis=1, keepdims=True, initial=0)


def _best_dice(overlap: np.ndarray, dice: np.ndarray) -> np.ndarray:
    return np.where(_most_overlapping(overlap), dice, 0).max(axis=1, initial=0)


def _distances(
    objects: Sequence[_Object],
    others: Sequence[_Object],
    overlap: np.ndarray,
    farthest: Callable[[_Object, _Object], float],
    diagonal: float,
) -> np.ndarray:
    """Return each object's Hausdorff distance to the object that overlaps it most; of several, to the nearest."""
    distances = np.full(len(objects), diagonal)
    boxes = np.array([[*other.start, *other.stop] for other in others]).reshape(-1, 4)
    for i, candidates in enumerate(_most_overlapping(overlap)):
        thing = objects[i]
        # the greatest distance between two boxes' sides is a lower bound of the Hausdorff distance
        at_least = np.abs(boxes - [*thing.start, *thing.stop]).max(axis=1)
        for j in sorted(np.flatnonzero(candidates), key=at_least.__getitem__):
            if at_least[j] >= distances[i]:
                break
            distances[i] = min(distances[i], max(farthest(thing, others[j]), farthest(others[j], thing)))
    return distances


def _farthest(thing: _Object, other: _Object) -> float:
    """Return the directed Hausdorff distance: the distance of an object's farthest pixel from another object.

    Outside the other's bounding box only `extremes` matter. Above the box, the topmost pixel of each of the object's
    columns is the column's farthest from every pixel of the other. The other's pixel nearest to it is the topmost of
    one of its columns. Likewise below, left and right.
    """
    start = np.maximum(thing.start, other.start)
    stop = np.maximum(start, np.minimum(thing.stop, other.stop))
    mine, its = (tuple(map(slice, start - item.start, stop - item.start)) for item in (thing, other))
    inside = float(other.gaps[its][thing.mask[mine]].max(initial=0))
    beyond = thing.extremes[((thing.extremes < other.start) | (thing.extremes >= other.stop)).any(axis=1)]
    exact = np.sqrt(np.rint(inside**2))  # OpenCV's distances are float32, but their squares are whole numbers
    return float(max(exact, other.tree.query(beyond)[0].max(initial=0)))
