"""The stages of the method one at a time, on one image, with checked arguments: for Python and notebooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np

from .checks import check_classifier, check_downsample, check_image, check_label_set, check_labels, checked_output
from .classify import ClassifiedTiles, Classifier, classify
from .errors import InputError
from .evaluate import confusion_matrix, occurring_ious
from .hsn_v1 import localise_and_adjust
from .labels import LabelSet, Taxonomy
from .tiles import resize

FORMS = ("raw", "resized", "normalised")  #: forms of a Grad-CAM; see `grad_cam`


@dataclass(frozen=True)
class FunctionClassifier:
    """A `classify.Classifier` from a function, which may use any framework.

    Attributes
    ----------
    function : callable
        Maps tiles of shape (T, tile, tile, 3), float32 in 0..255, to scores of shape (T, K) in 0..1 and coarse class
        activation maps of shape (T, K, h, w), not rectified; both float32.
    labels : Taxonomy
        Meaning of the K outputs; see `read_class_file`.
    thresholds : ndarray of shape (K,), float64
        Lowest score of a class that is present.
    tile : int
        Side of the tiles, in px.
    identity : str
        Changes with the weights, so that slides are not resumed with others; if left out, slides are never resumed.
    """

    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    labels: Taxonomy
    thresholds: np.ndarray
    tile: int = 224
    identity: str = field(default_factory=lambda: uuid4().hex)

    @property
    def mpp(self) -> float:
        """Scale of the training patches, in microns per pixel."""
        return self.labels.mpp

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score tiles; see `classify.Classifier`."""
        return self.function(tiles)


def classify_image(image: np.ndarray, classifier: Classifier, downsample: float = 1.0) -> ClassifiedTiles:
    """Score an image's tiles: stage 1.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    classifier : Classifier
        For example from `load_histonet`.
    downsample : float
        The classifier's microns per pixel over the image's.

    Returns
    -------
    ClassifiedTiles
        Its `scores` have the shape (T, K) for T tiles and K outputs, `classifier.labels.codes`; see also `localise`.

    Raises
    ------
    InputError
        If an argument is invalid.

    Examples
    --------
    >>> import hsn_v1
    >>> histonet = hsn_v1.load_histonet("histonet_X1.7_phantom")
    >>> image = hsn_v1.imread("img/01_phantom_patch/phantom_000014.png")
    >>> tiles = hsn_v1.classify_image(image, histonet)
    >>> tiles.scores.shape, tiles.cams.shape
    ((1, 51), (1, 51, 56, 56))
    """
    check_image(image)
    check_classifier(classifier)
    check_downsample(downsample, classifier)
    ((_, _, tiles),) = classify([(None, image)], classifier, downsample)
    return tiles


def scores(image: np.ndarray, classifier: Classifier, downsample: float = 1.0) -> dict[str, float]:
    """Return the score of each output of a classifier, in 0..1, by its code; of several tiles, the highest.

    Parameters and errors are those of `classify_image`.

    Examples
    --------
    >>> import hsn_v1
    >>> histonet = hsn_v1.load_histonet("histonet_X1.7_phantom")
    >>> image = hsn_v1.imread("img/01_phantom_patch/phantom_000014.png")
    >>> round(hsn_v1.scores(image, histonet)["S.C.H"], 2)  # cartilage
    1.0
    """
    highest = classify_image(image, classifier, downsample).scores.max(axis=0)
    return dict(zip(classifier.labels.codes, highest.tolist(), strict=True))


def grad_cam(
    image: np.ndarray, classifier: Classifier, code: str, form: str = "normalised", downsample: float = 1.0
) -> np.ndarray:
    """Map where in an image a classifier sees a class, at any score.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    classifier : Classifier
    code : str
        One of `classifier.labels.codes`.
    form : {"raw", "resized", "normalised"}
        ``raw``: weighted sum of the activations, (h, w), of an image of one tile. ``resized``: the same, resized to
        (H, W). ``normalised``: resized, rectified and divided by its maximum, in 0..1.
    downsample : float
        The classifier's microns per pixel over the image's.

    Returns
    -------
    ndarray of shape (h, w) or (H, W), float32

    Raises
    ------
    InputError
        If an argument is invalid.

    Examples
    --------
    >>> import hsn_v1
    >>> histonet = hsn_v1.load_histonet("histonet_X1.7_phantom")
    >>> image = hsn_v1.imread("img/01_phantom_patch/phantom_000014.png")
    >>> cam = hsn_v1.grad_cam(image, histonet, "S.C.H")
    >>> cam.shape, float(cam.max())
    ((224, 224), 1.0)
    """
    if form not in FORMS:
        raise InputError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
    tiles = classify_image(image, classifier, downsample)
    coarse, side = tiles.cams[:, checked_output(code, classifier)], tiles.grid.tile  # (T, h, w)
    if form == "raw":
        if len(coarse) > 1:
            raise InputError(
                f"image has {len(coarse)} tiles, and a raw map each; expected one of {side} px: cut it, or take "
                "hsn_v1.classify_image(image, classifier).cams, of shape (tiles, outputs, h, w)"
            )
        return coarse[0]
    (resized,) = tiles.grid.stitch(lambda tile: resize(coarse[tile : tile + 1], side, side))
    if form == "resized":
        return resized
    rectified = np.maximum(resized, 0)
    return rectified / max(rectified.max(), 1e-7)


def adjusted_maps(image: np.ndarray, tiles: ClassifiedTiles, label_set: LabelSet) -> np.ndarray:
    """Return an image's maps after stages 2 and 3; the highest map's class is the segmentation before the CRF.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    tiles : ClassifiedTiles
        Of this image; see `classify_image`.
    label_set : LabelSet

    Returns
    -------
    ndarray of shape (C, H, W), float32, in 0..1

    Examples
    --------
    >>> import hsn_v1
    >>> histonet = hsn_v1.load_histonet("histonet_X1.7_phantom")
    >>> image = hsn_v1.imread("img/01_phantom_patch/phantom_000014.png")
    >>> tiles, func = hsn_v1.classify_image(image, histonet), histonet.labels.label_sets["func"]
    >>> hsn_v1.adjusted_maps(image, tiles, func).shape
    (5, 224, 224)
    """
    check_image(image)
    check_label_set(label_set)
    ((_, _, maps),) = localise_and_adjust(image, tiles, [label_set])
    return maps


def iou(labels: np.ndarray, truth: np.ndarray, label_set: LabelSet) -> dict[str, float]:
    """Return the intersection over union of each class in a mask or its ground truth.

    Parameters
    ----------
    labels, truth : ndarray of shape (H, W), int
        Class indices; the number of classes marks an unlabelled pixel. See `read_mask`.
    label_set : LabelSet

    Returns
    -------
    dict of str to float, in 0..1
        By the class's code.

    Raises
    ------
    InputError
        If an argument is invalid, or the sizes differ.

    Examples
    --------
    >>> import hsn_v1
    >>> glas = hsn_v1.ADP.label_sets["glas"]
    >>> ious = hsn_v1.iou(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]), glas)
    >>> {code: round(value, 3) for code, value in ious.items()}
    {'Other': 0.5, 'G.O': 0.5}
    """
    check_label_set(label_set)
    check_labels(labels, label_set)
    check_labels(truth, label_set, labels.shape, "truth")
    return occurring_ious(confusion_matrix(truth, labels, len(label_set)), label_set)
