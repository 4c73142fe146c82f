"""HistoSegNet in one screen: classify, localise, adjust, refine.

Chan et al., "HistoSegNet: Semantic Segmentation of Histological Tissue Type in Whole Slide Images", ICCV 2019.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .adjust import adjust
from .adp import LabelSet, lenders_first
from .densecrf import DenseCRF
from .gradcam import localise
from .tiles import TileGrid, Window

if TYPE_CHECKING:
    from .histonet import HistoNet

#: What a segmentation is measured after.
STAGES = ("GradCAM", "Adjust", "CRF")


@dataclass(frozen=True)
class ClassifiedTiles:
    """What stage 1 finds in an image of T tiles.

    Attributes
    ----------
    grid : TileGrid
    scores : ndarray of shape (T, 51), float32, in 0..1
    thresholds : ndarray of shape (51,), float64
        Score from which on a class is present.
    cams : ndarray of shape (T, 51, h, w), float32
        Coarse class activation maps.
    """

    grid: TileGrid
    scores: np.ndarray
    thresholds: np.ndarray
    cams: np.ndarray

    def present(self, label_set: LabelSet) -> np.ndarray:
        """Tell which classes of a label set are present in each tile, as bool of shape (T, C)."""
        present = np.zeros((len(self.scores), len(label_set)), bool)
        above = self.scores >= self.thresholds
        present[:, label_set.classified] = above[:, label_set.outputs(label_set.classified)]
        present[:, label_set.indices(label_set.always_present)] = True
        return present

    def present_scores(self, label_set: LabelSet) -> dict[int, float]:
        """Return the score of each class that is present in any tile, by its index; of several tiles, the highest."""
        classes = np.flatnonzero(self.present(label_set).any(axis=0))
        scores = self.scores[:, label_set.outputs(classes)].max(axis=0)
        return dict(zip(classes.tolist(), scores.tolist(), strict=True))


@dataclass(frozen=True)
class Segmentation:
    """One label set's segmentation of an image.

    Attributes
    ----------
    maps : ndarray of shape (C, H, W), float32, in 0..1
        Adjusted maps.
    masks : dict of str to ndarray of shape (H, W), uint8
        Class indices after each of `STAGES` that was run.
    """

    maps: np.ndarray
    masks: dict[str, np.ndarray]


def segment_image(
    image: np.ndarray,
    histonet: HistoNet,
    label_sets: Iterable[LabelSet],
    crfs: Mapping[str, DenseCRF],
    downsample: float = 1.0,
    threads: int = 1,
) -> dict[str, Segmentation]:
    """Segment one image: the whole method.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    histonet : HistoNet
    label_sets : iterable of LabelSet
    crfs : mapping of str to DenseCRF
        By the label set's name; a label set without one stops before the CRF.
    downsample : float
        Factor between the image's scale and the classifier's; see `tiles.downsample_factor`.
    threads : int
        Threads that the CRF may use.

    Returns
    -------
    dict of str to Segmentation
        By the label set's name.
    """
    ((_, _, tiles),) = classify([(None, image)], histonet, downsample)
    return segment(image, tiles, label_sets, crfs, threads)


def segment(
    image: np.ndarray,
    tiles: ClassifiedTiles,
    label_sets: Iterable[LabelSet],
    crfs: Mapping[str, DenseCRF],
    threads: int = 1,
    window: Window | None = None,
) -> dict[str, Segmentation]:
    """Segment an image whose tiles are classified, or a window of it, which then is what `image` shows.

    Other parameters and the result are those of `segment_image`.
    """
    wanted, segmentations, lattices = list(label_sets), {}, {}
    adjusted = localise_and_adjust(image, tiles, wanted, window)
    for label_set in wanted:
        cams, maps = adjusted.pop(label_set.name)
        masks = {"GradCAM": winners(cams, label_set.foreground), "Adjust": winners(maps)}
        del cams  # of a large image, gigabytes that the CRF can use
        if label_set.name in crfs:
            masks["CRF"] = winners(crfs[label_set.name](maps, image, threads, lattices))
        segmentations[label_set.name] = Segmentation(maps, masks)
    return segmentations


def localise_and_adjust(
    image: np.ndarray, tiles: ClassifiedTiles, label_sets: Iterable[LabelSet], window: Window | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return Grad-CAMs and adjusted maps by the label set's name, both (C, H, W) float32 in 0..1: stages 2 and 3.

    Of the whole image, or of a window, which then is what `image` shows. Lenders of the label sets are among them.
    """
    found = {}
    for label_set in lenders_first(label_sets):
        cams = localise(tiles.cams, tiles.scores, tiles.present(label_set), label_set, tiles.grid, window)
        lent = found[label_set.lender][1][label_set.borrowed_indices] if label_set.lender else None
        found[label_set.name] = cams, adjust(cams, image, label_set, lent)
    return found


def classify(
    images: Iterable[tuple[Any, np.ndarray]], histonet: HistoNet, downsample: float = 1.0, batch_size: int = 8
) -> Iterator[tuple[Any, np.ndarray, ClassifiedTiles]]:
    """Classify the tiles of a stream of images, in batches that may span images.

    Parameters
    ----------
    images : iterable of (key, ndarray of shape (H, W, 3), uint8)
        Of any sizes.
    histonet : HistoNet
    downsample : float
        Factor between the images' scale and the classifier's.
    batch_size : int
        Number of tiles that the classifier takes at once.

    Yields
    ------
    (key, image, ClassifiedTiles)
        In the order of the images.
    """
    waiting, crops, results = deque(), [], []

    def run() -> Iterator[tuple[Any, np.ndarray, ClassifiedTiles]]:
        results.extend(zip(*histonet(np.stack(crops[:batch_size])), strict=True))
        del crops[:batch_size]
        while waiting and len(results) >= len(waiting[0][2]):
            key, image, grid = waiting.popleft()
            scores, cams = map(np.stack, zip(*results[: len(grid)], strict=True))
            del results[: len(grid)]
            yield key, image, ClassifiedTiles(grid, scores, histonet.thresholds, cams)

    for key, image in images:
        grid = TileGrid(*image.shape[:2], downsample, histonet.tile)
        waiting.append((key, image, grid))
        crops.extend(grid.crop(image))
        while len(crops) >= batch_size:
            yield from run()
    while crops:
        yield from run()


def winners(maps: np.ndarray, among: list[int] | None = None) -> np.ndarray:
    """Return the class with the highest map at each pixel, the first of equals.

    Parameters
    ----------
    maps : ndarray of shape (C, H, W)
    among : list of int, optional
        Class indices that compete; all, if left out.

    Returns
    -------
    ndarray of shape (H, W), uint8
    """
    if among is None:
        return maps.argmax(axis=0).astype(np.uint8)
    return np.asarray(among, np.uint8)[maps[among].argmax(axis=0)]
