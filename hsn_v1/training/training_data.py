"""What the classifier learns from: images and patch labels, nothing else. No mask ever leaves `cut_patches`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..io.images import read_image
from ..parallel import in_parallel


@dataclass(frozen=True)
class LabelledPatches:
    """Patches and what is in them, but not where.

    Attributes
    ----------
    images : ndarray of shape (N, tile, tile, 3), uint8
    targets : ndarray of shape (N, K), float32, 0 or 1
        Which of the classifier's outputs are present, parents included.
    """

    images: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> LabelledPatches:
        """Return some of the patches."""
        return LabelledPatches(self.images[indices], self.targets[indices])

    def split(self, count: int, seed: int) -> tuple[LabelledPatches, LabelledPatches]:
        """Return all but `count` of the patches, and these `count`, drawn at random.

        The rarest labels are drawn first, so that each that is in two patches or more is in both parts, if `count`
        allows it; the same goes for the patches that lack one.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        chosen: list[int] = []
        each_way = np.concatenate([self.targets > 0, self.targets == 0], axis=1)[order]  # (N, 2 K)
        numbers = each_way.sum(axis=0)
        for which in np.argsort(numbers, kind="stable"):
            if numbers[which] >= 2 and len(chosen) < count and not each_way[chosen, which].any():
                chosen.append(int(np.flatnonzero(each_way[:, which])[0]))
        rest = [i for i in range(len(order)) if i not in set(chosen)]
        chosen += rest[: count - len(chosen)]
        validation = order[np.sort(chosen)]
        return self.take(np.setdiff1d(order, validation)), self.take(validation)


def read_patches(
    paths: Sequence[Path], targets: np.ndarray, tile: int, factor: float | None = None, quiet: bool = False
) -> tuple[LabelledPatches, list[str]]:
    """Read patches with their labels; those that cannot be read are left out, and named.

    Parameters
    ----------
    paths : sequence of N Path
    targets : ndarray of shape (N, K), 0 or 1
    tile : int
        Side that they are brought to, in px; see `fit_to_tile`.
    factor : float, optional
        The patches' mpp over the classifier's; without it, a patch shows what a tile shows, whatever its size.

    Returns
    -------
    patches : LabelledPatches
    notes : list of str
        Which patches were left out and why, and how many had to be shrunk.

    Raises
    ------
    InputError
        If none can be read.
    """
    jobs = [(path, tile, factor) for path in paths]
    images = np.empty((len(jobs), tile, tile, 3), np.uint8)
    kept, failed, shrunk = [], [], []
    for i, (image, note) in enumerate(in_parallel(_read_patch, jobs, f"reading {len(jobs)} patches", quiet)):
        if image is None:
            failed.append(note)
            continue
        images[len(kept)] = image
        kept.append(i)
        if note:
            shrunk.append(note)
    if not kept:
        raise InputError(failed[0])
    notes = [f"left out: {message}" for message in failed[:10]]
    if len(failed) > 10:
        notes.append(f"left out: {len(failed) - 10} more that cannot be read")
    if shrunk:
        notes.append(
            f"{len(shrunk)} patches are larger than a tile of {tile} px and were shrunk, such as {shrunk[0]}; to keep "
            "their scale, cut them smaller or give a larger --tile"
        )
    return LabelledPatches(images[: len(kept)], np.asarray(targets, np.float32)[kept]), notes


def _read_patch(path: Path, tile: int, factor: float | None) -> tuple[np.ndarray | None, str]:
    try:
        image, _ = read_image(path)
    except InputError as error:
        return None, str(error)
    height, width = image.shape[:2]
    too_large = factor is not None and round(max(height, width) * factor) > tile
    return fit_to_tile(image, tile, factor), f"{path.name} ({width} x {height} px)" if too_large else ""


def fit_to_tile(image: np.ndarray, tile: int, factor: float | None = None) -> np.ndarray:
    """Bring an image to a tile: scaled, shrunk further if it is larger, mirrored at its edges if smaller.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    tile : int
        Side to reach, in px.
    factor : float, optional
        The image's mpp over the classifier's; without it, the longer side becomes the tile's.

    Returns
    -------
    ndarray of shape (tile, tile, 3), uint8
    """
    fitting = tile / max(image.shape[:2])
    scale = fitting if factor is None else min(factor, fitting)
    height, width = (min(max(round(side * scale), 1), tile) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=how)
    top, left = (tile - height) // 2, (tile - width) // 2
    return cv2.copyMakeBorder(image, top, tile - height - top, left, tile - width - left, cv2.BORDER_REFLECT)
