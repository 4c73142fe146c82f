"""Stage 1: score the tiles of images, and keep their coarse class activation maps for stage 2.

A classifier is anything that satisfies `Classifier`: HistoNet (`histonet.py`), or a network of another framework
(docs/own_classes.md has an example). If its class file describes a stain, images are normalised to it first: the mean
and standard deviation of their tissue become the stain's in CIELAB, a nearly decorrelated colour space (Reinhard et
al., "Color Transfer between Images", IEEE Computer Graphics and Applications 2001).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np

from .labels import LabelSet, Stain, Taxonomy
from .tiles import TileGrid, resize

BRIGHTEST = 90.0  #: least lightness (L* of CIELAB, 0..100) of glass
FEWEST = 500  #: least number of tissue pixels; with fewer, all pixels count


class Classifier(Protocol):
    """A patch classifier with K outputs, as stage 1 calls it.

    Attributes
    ----------
    tile : int
        Side of its tiles, in px.
    mpp : float
        Scale of its training patches, in microns per pixel.
    labels : Taxonomy
        Meaning of its outputs, and the label sets that are segmented with them.
    thresholds : ndarray of shape (K,), float64
        Lowest score of a class that is present.
    identity : str
        Changes with the weights and thresholds, so that results of one classifier are not resumed with another.
    """

    tile: int
    mpp: float
    labels: Taxonomy
    thresholds: np.ndarray
    identity: str

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score tiles.

        Parameters
        ----------
        tiles : ndarray of shape (T, tile, tile, 3), float32, in 0..255

        Returns
        -------
        scores : ndarray of shape (T, K), float32, in 0..1
        cams : ndarray of shape (T, K, h, w), float32
            Coarse class activation maps, not rectified.
        """


@dataclass(frozen=True)
class ClassifiedTiles:
    """Scores and coarse class activation maps of an image's T tiles: the result of stage 1."""

    grid: TileGrid
    scores: np.ndarray  #: (T, K) float32, in 0..1
    thresholds: np.ndarray  #: (K,) float64, lowest score of a class that is present
    cams: np.ndarray  #: (T, K, h, w) float32, coarse class activation maps

    @cached_property
    def highest(self) -> list[float]:
        """Highest value of all outputs' maps in each tile, after resizing to the tile's side."""
        return [float(resize(cams, self.grid.tile, self.grid.tile).max()) for cams in self.cams]

    def present(self, label_set: LabelSet) -> np.ndarray:
        """Tell which classes of a label set are present in each tile, as bool of shape (T, C)."""
        present = np.zeros((len(self.scores), len(label_set)), bool)
        above = self.scores >= self.thresholds
        present[:, label_set.classified] = above[:, label_set.outputs(label_set.classified)]
        present[:, label_set.indices(label_set.always_present)] = True
        return present

    def present_scores(self, label_set: LabelSet) -> dict[int, float]:
        """Return each present class's highest score over the tiles, by the class's index."""
        classes = np.flatnonzero(self.present(label_set).any(axis=0))
        scores = self.scores[:, label_set.outputs(classes)].max(axis=0)
        return dict(zip(classes.tolist(), scores.tolist(), strict=True))


def classify(
    images: Iterable[tuple[Any, np.ndarray]], classifier: Classifier, downsample: float = 1.0, batch_size: int = 8
) -> Iterator[tuple[Any, np.ndarray, ClassifiedTiles]]:
    """Classify the tiles of a stream of images, in batches that may span images.

    Parameters
    ----------
    images : iterable of (key, ndarray of shape (H, W, 3), uint8)
        Of any sizes.
    classifier : Classifier
    downsample : float
        Factor between the images' scale and the classifier's.
    batch_size : int
        Number of tiles per call of the classifier.

    Yields
    ------
    (key, image, ClassifiedTiles)
        In the order of the images.
    """
    waiting, crops, results = deque(), [], []

    def run() -> Iterator[tuple[Any, np.ndarray, ClassifiedTiles]]:
        results.extend(zip(*classifier(np.stack(crops[:batch_size])), strict=True))
        del crops[:batch_size]
        while waiting and len(results) >= len(waiting[0][2]):
            key, image, grid = waiting.popleft()
            scores, cams = zip(*results[: len(grid)], strict=True)
            del results[: len(grid)]
            yield key, image, ClassifiedTiles(grid, np.stack(scores), classifier.thresholds, np.stack(cams))

    views, stain = classifier.labels.views, classifier.labels.stain
    for key, image in images:
        grid = TileGrid(*image.shape[:2], downsample, classifier.tile, views.stride, views.margin)
        waiting.append((key, image, grid))
        crops.extend(grid.crop(normalise_stain(image, stain_statistics(image), stain) if stain else image))
        while len(crops) >= batch_size:
            yield from run()
    while crops:
        yield from run()


def normalise_stain(image: np.ndarray, statistics: np.ndarray, stain: Stain) -> np.ndarray:
    """Normalise the stain of an image, (H, W, 3) uint8 RGB, to that of a classifier's training patches.

    `statistics` are the `stain_statistics` of the whole image or slide.
    """
    mean, std = statistics
    lab = (_lab(image) - mean) / np.maximum(std, 1) * stain.std + stain.mean
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return (rgb * 255).clip(0, 255).astype(np.uint8)


def stain_statistics(image: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation of L*, a*, b* over the tissue of an RGB image (H, W, 3): (2, 3) float64."""
    lab = _lab(image).reshape(-1, 3)
    tissue = lab[lab[:, 0] < BRIGHTEST]
    tissue = tissue if len(tissue) >= FEWEST else lab
    return np.stack([tissue.mean(axis=0, dtype=np.float64), tissue.std(axis=0, dtype=np.float64)])


def _lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
