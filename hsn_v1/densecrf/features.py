"""Unary energies, features of pixels, and their lattices, under the names of `pydensecrf.utils`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .lattice_filter import Lattice
from .permutohedral import build_lattice

Deviations = float | Sequence[float]  #: standard deviation of all axes or channels, or of each

KEPT = 1 << 20  #: most pixels of an image whose Gaussian kernel's lattice is cached, at 30 bytes a pixel


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> np.ndarray:
    """Return the unary energy of a label map that is correct with a given probability.

    Parameters
    ----------
    labels : ndarray of int, of any shape
        With `zero_unsure`, 1 to `n_labels`, and 0 for a pixel of unknown class; else 0 to ``n_labels - 1``.
    n_labels : int
        Number of classes, at least 2. With `zero_unsure`, 0 is not one of them.
    gt_prob : float
        Probability of the class of `labels`, between 0 and 1; the others share the rest.
    zero_unsure : bool
        Whether 0 means that all classes are equally likely, instead of the first class.

    Returns
    -------
    ndarray of shape (n_labels, labels.size), float32
        Negative log-probabilities.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> unary_from_labels(np.array([0, 1, 2]), 2, gt_prob=0.9).round(2)  # 0: unsure
    array([[0.69, 0.11, 2.3 ],
           [0.69, 2.3 , 0.11]], dtype=float32)
    """
    labels = np.asarray(labels).ravel()
    if not 0 < gt_prob < 1:
        raise ValueError(f"gt_prob is {gt_prob}, expected a probability between 0 and 1")
    if n_labels < 2:
        raise ValueError(f"n_labels is {n_labels}, expected at least 2")
    classes = labels[labels > 0] - 1 if zero_unsure else labels
    if labels.size and (labels.min() < 0 or (classes.size and classes.max() >= n_labels)):
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, which {n_labels} classes do not have")
    energy = np.full((n_labels, labels.size), -np.log((1 - gt_prob) / (n_labels - 1)), np.float32)
    energy[classes, np.flatnonzero(labels) if zero_unsure else np.arange(labels.size)] = -np.log(gt_prob)
    if zero_unsure:
        energy[:, labels == 0] = -np.log(1 / n_labels)
    return energy


def unary_from_softmax(sm: np.ndarray, scale: float | None = None, clip: float | None = 1e-5) -> np.ndarray:
    """Return the unary energy of probabilities.

    Parameters
    ----------
    sm : ndarray of shape (C, ...), in 0..1
        Probabilities, such as a network's.
    scale : float, optional
        Weight of `sm`, above 0 and up to 1, in a mixture with uniform probabilities of weight 1 - `scale`.
    clip : float, optional
        Lower limit of the probabilities, which keeps the energy finite.

    Returns
    -------
    ndarray of shape (C, N), float32
        Negative log-probabilities.

    Raises
    ------
    ValueError
        If `scale` is out of its range.

    Examples
    --------
    >>> unary_from_softmax(np.array([[0.5, 1], [0.5, 0]])).round(2)
    array([[ 0.69, -0.  ],
           [ 0.69, 11.51]], dtype=float32)
    """
    if scale is not None:
        if not 0 < scale <= 1:
            raise ValueError(f"scale is {scale}, expected a number above 0 and up to 1")
        sm = scale * sm + (1 - scale) * (np.ones(sm.shape) / len(sm))
    if clip is not None:
        sm = np.clip(sm, clip, 1)
    return -np.log(sm).reshape(len(sm), -1).astype(np.float32)


def compute_unary(labels: np.ndarray, M: int, GT_PROB: float = 0.5) -> np.ndarray:  # noqa: N803
    """Call `unary_from_labels` with the same arguments, under its name in older scripts."""
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: np.ndarray, GT_PROB: float = 1) -> np.ndarray:  # noqa: N803
    """Call `unary_from_softmax` without `clip`, under its name in older scripts."""
    return unary_from_softmax(sm, GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Return the features of a Gaussian kernel of the distance of two points of a grid.

    Parameters
    ----------
    sdims : sequence of D float
        Standard deviation along each axis, in steps of the grid.
    shape : sequence of D int
        Shape of the grid.

    Returns
    -------
    ndarray of shape (D, N), float32
        Coordinates, axis 0 first, in standard deviations.

    Raises
    ------
    ValueError
        If there are more or fewer deviations than axes.
    """
    if len(sdims) != len(shape):
        raise ValueError(f"sdims has {len(sdims)} numbers, for {len(shape)} axes (of channels, chdim is the axis)")
    grid = np.indices(tuple(shape), np.float32)
    for coordinates, deviation in zip(grid, sdims, strict=True):
        coordinates /= deviation
    return grid.reshape(len(grid), -1)


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: Deviations, img: np.ndarray, chdim: int = -1
) -> np.ndarray:
    """Return the features of a bilateral kernel of two points' distance and of the difference of their values.

    Parameters
    ----------
    sdims : sequence of D float
        Standard deviation along each axis, in steps of the grid.
    schan : float or sequence of float
        Standard deviation of the values of all channels, or of each. As in pydensecrf, a shorter sequence leaves the
        remaining channels unscaled: ``(s,)`` differs from `s`.
    img : ndarray
        Values on D axes, plus one axis of C channels unless `chdim` is -1.
    chdim : int
        Axis of the channels; -1 if there is none.

    Returns
    -------
    ndarray of shape (D + C, N), float32
        Coordinates and channels, in standard deviations.

    Raises
    ------
    ValueError
        If there are more deviations than axes or channels.
    """
    channels = (img[np.newaxis] if chdim == -1 else np.moveaxis(img, chdim, 0)).astype(np.float32)
    deviations = [schan] * len(channels) if np.ndim(schan) == 0 else list(schan)
    if len(deviations) > len(channels):
        raise ValueError(f"schan has {len(deviations)} numbers, for {len(channels)} channels")
    for channel, deviation in zip(channels, deviations, strict=False):
        channel /= deviation
    return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), channels.reshape(len(channels), -1)])


def image_lattice(
    image: np.ndarray,
    sxy: Deviations,
    srgb: Deviations | None = None,
    threads: int = 1,
    normalisation: str = "symmetric",
) -> Lattice:
    """Return the lattice of an image's pixels, with their positions as features, and their colours if `srgb` is given.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Without `srgb`, only its size is used.
    sxy : float or (float, float)
        Standard deviation in px, or those of x and of y. A ValueError is raised unless they are positive.
    srgb : float or (float, float, float)
        Standard deviation in grey levels, or those of the channels; likewise.
    threads, normalisation
        See `build_lattice`.
    """
    height, width = image.shape[:2]
    sx, sy = _deviations("sxy", sxy, 2)
    if srgb is None:
        return (_kept_grid if height * width <= KEPT else _grid)(height, width, sx, sy, threads, normalisation)
    features = create_pairwise_bilateral((sy, sx), _deviations("srgb", srgb, 3), image, chdim=2)
    return _lattice(features, threads, normalisation)


def _grid(height: int, width: int, sx: float, sy: float, threads: int, normalisation: str) -> Lattice:
    return _lattice(create_pairwise_gaussian((sy, sx), (height, width)), threads, normalisation)


_kept_grid = lru_cache(maxsize=4)(_grid)  # patches, and windows of a slide, are mostly of one size


def _lattice(features: np.ndarray, threads: int, normalisation: str) -> Lattice:
    features[:2] = features[1::-1].copy()  # x first, as in pydensecrf: the order changes the lattice
    return build_lattice(features, threads, normalisation)


def _deviations(name: str, value: Deviations, count: int) -> list[float]:
    numbers = np.asarray(value, np.float64)
    if numbers.shape not in ((), (count,)) or not (numbers > 0).all():
        raise ValueError(f"{name} is {value}, expected a positive number or {count} of them")
    return np.broadcast_to(numbers, count).tolist()
