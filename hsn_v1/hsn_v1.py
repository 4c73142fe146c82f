"""HistoSegNet in one screen: classify, localise, adjust, refine.

Chan et al., "HistoSegNet: Semantic Segmentation of Histological Tissue Type in Whole Slide Images", ICCV 2019.
docs/method.md defines each stage exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .adjust import background_map, subtract, unsubtracted_maps
from .checks import check_segmentation
from .classify import ClassifiedTiles, Classifier, classify
from .densecrf import CRF, image_lattice
from .gradcam import localise
from .labels import LabelSet, lenders_first
from .tiles import Window

ROWS = 64  #: rows of maps that are compared at once, few enough for the processor's cache


@dataclass(frozen=True)
class Segmentation:
    """One label set's segmentation of an image.

    Attributes
    ----------
    maps : ndarray of shape (C, H, W), float32, in 0..1
        Adjusted maps.
    masks : dict of str to ndarray of shape (H, W), uint8
        Class indices after each of `labels.STAGES` that was run.
    unresponsive : float
        Share of the pixels where no class responds. The Grad-CAM mask gives them the first class, as published.
    """

    maps: np.ndarray
    masks: dict[str, np.ndarray]
    unresponsive: float = 0.0


def segment_image(
    image: np.ndarray,
    classifier: Classifier,
    label_sets: Iterable[LabelSet],
    crfs: Mapping[str, CRF],
    downsample: float = 1.0,
    threads: int = 1,
) -> dict[str, Segmentation]:
    """Segment one image: the whole method.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    classifier : Classifier, such as a HistoNet
    label_sets : iterable of LabelSet, out of ``classifier.labels``
    crfs : mapping of str to CRF
        By the label set's name; if empty, the CRF is left out.
    downsample : float
        Factor between the two scales: the classifier's mpp over the image's.
    threads : int
        Threads that the CRF may use.

    Returns
    -------
    dict of str to Segmentation, by the label set's name

    Raises
    ------
    InputError
        If an argument is invalid; the message gives the call that converts it.

    Examples
    --------
    >>> import hsn_v1
    >>> histonet = hsn_v1.load_histonet("histonet_X1.7_phantom")
    >>> image = hsn_v1.imread("img/01_phantom_patch/phantom_000014.png")
    >>> func, crfs = histonet.labels.label_sets["func"], hsn_v1.load_crfs("histonet_X1.7_phantom")
    >>> hsn_v1.segment_image(image, histonet, [func], crfs)["func"].masks["CRF"].shape
    (224, 224)
    """
    label_sets = check_segmentation(image, classifier, label_sets, crfs, downsample, threads)
    ((_, _, tiles),) = classify([(None, image)], classifier, downsample)
    return dict(segment(image, tiles, label_sets, crfs, threads))


def segment(
    image: np.ndarray,
    tiles: ClassifiedTiles,
    label_sets: Iterable[LabelSet],
    crfs: Mapping[str, CRF],
    threads: int = 1,
    window: Window | None = None,
) -> Iterator[tuple[str, Segmentation]]:
    """Segment an image with classified tiles, or only a `window` of it; `image` is then cut to the window.

    Yields each label set's name and Segmentation. The other parameters are those of `segment_image`.
    """
    lattice = cache(partial(image_lattice, image, threads=threads))  # shared by label sets of the same widths
    for label_set, cams, maps in localise_and_adjust(image, tiles, label_sets, window):
        masks = {"GradCAM": winners(cams, label_set.foreground), "Adjust": winners(maps)}  # (H, W)
        unresponsive = 1 - float(cams[label_set.foreground].any(axis=0).mean())
        del cams  # frees gigabytes for the CRF of a large image
        if label_set.name in crfs:
            masks["CRF"] = winners(crfs[label_set.name](maps, image, threads, lattice))  # (C, H, W) -> (H, W)
        yield label_set.name, Segmentation(maps, masks, unresponsive)


def localise_and_adjust(
    image: np.ndarray, tiles: ClassifiedTiles, label_sets: Iterable[LabelSet], window: Window | None = None
) -> Iterator[tuple[LabelSet, np.ndarray, np.ndarray]]:
    """Run stages 2 and 3: yield each label set, its Grad-CAMs and its adjusted maps, both (C, H, W) float32 in 0..1."""
    return adjust_each(image, label_sets, lambda label_set: localise(tiles, label_set, window))


def adjust_each(
    image: np.ndarray, label_sets: Iterable[LabelSet], cams_of: Callable[[LabelSet], np.ndarray]
) -> Iterator[tuple[LabelSet, np.ndarray, np.ndarray]]:
    """Run stage 3: yield each label set, its Grad-CAMs, which `cams_of` returns, and its adjusted maps."""
    wanted, lent = {label_set.name: label_set for label_set in label_sets}, {}
    background = cache(partial(background_map, image))
    for label_set in lenders_first(wanted.values()):
        cams = cams_of(label_set)  # (C, H, W)
        unsubtracted = unsubtracted_maps(cams, image, label_set, lent.get(label_set.name), background)  # (C, H, W)
        maps = subtract(unsubtracted, label_set)  # (C, H, W)
        lends = maps if label_set.variant.lends_adjusted else unsubtracted
        lent |= {one.name: lends[one.borrowed_indices] for one in wanted.values() if one.lender == label_set}
        if label_set.name in wanted:
            yield label_set, cams, maps


def winners(maps: np.ndarray, among: list[int] | None = None) -> np.ndarray:
    """Return the class with the highest map at each pixel; of equal ones, the first.

    Parameters
    ----------
    maps : ndarray of shape (C, H, W)
    among : list of int, optional
        Indices of the competing classes; all, if left out.

    Returns
    -------
    ndarray of shape (H, W), uint8
    """
    among = range(len(maps)) if among is None else among
    labels = np.empty(maps.shape[1:], np.uint8)
    for top in range(0, len(labels), ROWS):
        rows = slice(top, top + ROWS)
        highest, place = maps[among[0], rows].copy(), np.zeros(labels[rows].shape, np.uint8)
        for number, c in enumerate(among[1:], start=1):
            higher = maps[c, rows] > highest
            np.maximum(place, higher * np.uint8(number), out=place)  # a later class has a greater number
            np.maximum(highest, maps[c, rows], out=highest)
        labels[rows] = np.asarray(among, np.uint8)[place]
    return labels
