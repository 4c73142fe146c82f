"""Stage 4: a fully connected CRF, which moves the segmentation's borders to those of the image.

`CRF` is the method's: with U_i(l) = -log p_i(l) for the probabilities p of the adjusted maps, a Gaussian kernel of the
distance of two pixels, and a bilateral one of their distance and of the difference of their colours, both normalised
symmetrically (docs/method.md, stage 4; for the inference, see `meanfield`).

`DenseCRF2D`, `DenseCRF` and the functions for their arguments are what users of pydensecrf know, with the same names,
arguments and results (docs/densecrf.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from .errors import InputError
from .lattice_filter import Lattice, filter_lattice
from .meanfield import Pairwise, infer, softmax
from .permutohedral import NORMALISATIONS, build_lattice
from .potentials import (
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    unary_from_labels,
    unary_from_softmax,
)

__all__ = [
    "CONST_KERNEL",
    "CRF",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "image_lattice",
    "unary_from_labels",
    "unary_from_softmax",
]

LARGE = 1 << 18  #: pixels from which on the threads share one image
KEPT = 1 << 20  #: pixels up to which the lattice of an image's size is kept, of 30 bytes a pixel

BACKENDS = ("numba", "pydensecrf")


@dataclass(frozen=True)
class CRF:
    """A dense CRF with Potts compatibility and named weights (docs/method.md, stage 4).

    Attributes
    ----------
    gauss_sxy, gauss_compat : float
        Width in px and compatibility of the Gaussian kernel, which smooths.
    bilat_sxy, bilat_srgb, bilat_compat : float
        Widths in px and in grey levels, and compatibility of the bilateral kernel, which follows the image's edges.
    iterations : int
        Mean-field steps.
    backend : {"numba", "pydensecrf"}
        Who computes it: this package, or the library that the published code used.
    """

    gauss_sxy: float = 3
    gauss_compat: float = 30
    bilat_sxy: float = 10
    bilat_srgb: float = 20
    bilat_compat: float = 50
    iterations: int = 5
    backend: str = "numba"

    @classmethod
    def from_file(cls, path: Path) -> CRF:
        """Read the settings from a file of six numbers, as published: those of this class, and the iterations.

        The last number is ignored, as the published loader does: there are five iterations.

        Raises
        ------
        InputError
            If the file does not hold six positive numbers.
        """
        try:
            settings = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: not a file of NumPy's; get the file again, or remove it") from error
        if settings.size != 6 or settings.dtype.kind not in "iuf" or not (settings > 0).all():
            raise InputError(
                f"{path}: holds {settings.size} values of type {settings.dtype}, expected 6 positive numbers: "
                "gauss_sxy, gauss_compat, bilat_sxy, bilat_srgb, bilat_compat, iterations"
            )
        return cls(*settings.ravel()[:5].tolist())

    @property
    def reach(self) -> int:
        """Distance in px beyond which pixels hardly matter to each other: the margin that a window needs."""
        return math.ceil(3 * max(self.gauss_sxy, self.bilat_sxy))

    def __call__(
        self,
        maps: np.ndarray,
        image: np.ndarray,
        threads: int = 1,
        lattice: Callable[..., Lattice] | None = None,
    ) -> np.ndarray:
        """Refine adjusted maps.

        Parameters
        ----------
        maps : ndarray of shape (C, H, W), float32, in 0..1
            Classes without any mass take no part.
        image : ndarray of shape (H, W, 3), uint8
        threads : int
            The result is the same for any number.
        lattice : callable, optional
            Gives the image's lattice for a kernel's widths; `image_lattice` of this image, if left out. One that
            remembers (`functools.cache`) lets label sets of one image share lattices.

        Returns
        -------
        ndarray of shape (C, H, W), float32, in 0..1
            Probability of each class; all 0 where no class has any mass.

        Raises
        ------
        ValueError
            If the sizes of maps and image do not agree.
        """
        if image.shape != (*maps.shape[1:], 3):
            raise ValueError(f"maps of shape {maps.shape} and image of shape {image.shape} do not agree")
        refined = np.zeros(maps.shape, np.float32)
        competing = np.flatnonzero(maps.any(axis=(1, 2)))
        if len(competing) == 1:
            refined[competing] = 1
        elif len(competing) > 1 and self.backend == "pydensecrf":
            refined[competing] = _infer_by_pydensecrf(self, maps[competing], image)
        elif len(competing) > 1:
            refined[competing] = _infer(
                self, maps[competing], lattice or partial(image_lattice, image, threads=threads), threads
            )
        return refined


def _infer(crf: CRF, maps: np.ndarray, lattice: Callable[..., Lattice], threads: int) -> np.ndarray:
    classes, n = len(maps), maps[0].size
    pairwise = [
        Pairwise(lattice(*widths), np.full(classes, compat, np.float32))
        for widths, compat in (
            ((crf.gauss_sxy,), crf.gauss_compat),
            ((crf.bilat_sxy, crf.bilat_srgb), crf.bilat_compat),
        )
    ]
    log_p = np.empty((n, classes), np.float32)
    np.log(maps.clip(1e-5, 1).reshape(classes, n).T, out=log_p)
    q = softmax(log_p, threads)
    infer(log_p, pairwise, q, crf.iterations, threads)
    return q.T.reshape(maps.shape)


def _infer_by_pydensecrf(crf: CRF, maps: np.ndarray, image: np.ndarray) -> np.ndarray:
    try:
        from pydensecrf.densecrf import DIAG_KERNEL, NORMALIZE_SYMMETRIC, DenseCRF2D
    except ImportError as error:
        raise InputError("crf is 'pydensecrf', which is not installed: pip install pydensecrf2") from error

    classes, height, width = maps.shape
    inference = DenseCRF2D(width, height, classes)
    inference.setUnaryEnergy(-np.log(maps.clip(1e-5, 1)).reshape(classes, -1))
    kernel = {"kernel": DIAG_KERNEL, "normalization": NORMALIZE_SYMMETRIC}
    inference.addPairwiseGaussian(sxy=crf.gauss_sxy, compat=crf.gauss_compat, **kernel)
    inference.addPairwiseBilateral(
        sxy=crf.bilat_sxy, srgb=crf.bilat_srgb, rgbim=np.array(image, order="C"), compat=crf.bilat_compat, **kernel
    )
    return np.reshape(inference.inference(crf.iterations), maps.shape)


def image_lattice(
    image: np.ndarray,
    sxy: float | tuple[float, float],
    srgb: float | tuple[float, float, float] | None = None,
    threads: int = 1,
    normalisation: str = "symmetric",
) -> Lattice:
    """Return the lattice of an image's pixels, by row and column, and by colour if `srgb` is given.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Only its size counts without `srgb`.
    sxy : float or (float, float)
        Standard deviation in px, or those of x and of y.
    srgb : float or (float, float, float)
        Standard deviation in grey levels, or those of the channels.
    threads : int
    normalisation : str
        As of `build_lattice`.

    Returns
    -------
    Lattice
    """
    height, width = image.shape[:2]
    sx, sy = np.broadcast_to(sxy, 2).tolist()
    if srgb is None:
        return (_kept_grid if height * width <= KEPT else _grid)(height, width, sx, sy, threads, normalisation)
    features = create_pairwise_bilateral((sy, sx), srgb, image, chdim=2)
    return build_lattice(_x_first(features), threads, normalisation)


def _grid(height: int, width: int, sx: float, sy: float, threads: int, normalisation: str) -> Lattice:
    features = create_pairwise_gaussian((sy, sx), (height, width))
    return build_lattice(_x_first(features), threads, normalisation)


_kept_grid = lru_cache(maxsize=4)(_grid)  # patches, and windows of a slide, are mostly of one size


def _x_first(features: np.ndarray) -> np.ndarray:
    # The order in which pydensecrf embeds an image's features, which matters to the lattice.
    features[:2] = features[1::-1].copy()
    return features


class KernelType(IntEnum):
    """What pydensecrf could learn of a kernel: inference is the same with all three."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(IntEnum):
    """By what a kernel is divided: as `permutohedral.NORMALISATIONS`."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType


@dataclass(frozen=True)
class ConstUnary:
    """A unary energy that is given, for `DenseCRF.setUnary`."""

    u: np.ndarray


class DenseCRF:
    """A dense CRF over any points, called as pydensecrf's.

    Parameters
    ----------
    npixels, nlabels : int
        Number of points and of classes.
    threads : int
        The result is the same for any number.

    Raises
    ------
    ValueError
        If there is no point or no class.
    """

    def __init__(self, npixels: int, nlabels: int, threads: int = 1) -> None:
        if npixels < 1 or nlabels < 1:
            raise ValueError(f"a CRF of {npixels} points and {nlabels} classes: expected at least one of each")
        self._log_p = np.zeros((npixels, nlabels), np.float32)
        self._pairwise: list[Pairwise] = []
        self._threads = threads

    def setUnaryEnergy(self, u: np.ndarray, f: None = None) -> None:  # noqa: N802
        """Set the unary energy: negative log-probabilities of shape (nlabels, npixels), float32.

        Raises
        ------
        ValueError
            If the shape is another.
        NotImplementedError
            If `f` is given: a logistic unary, which is for learning.
        """
        if f is not None:
            raise NotImplementedError("setUnaryEnergy: a logistic unary (f) is not implemented, only a constant one")
        u = np.asarray(u)
        if u.shape != self._log_p.shape[::-1]:
            raise ValueError(f"the unary energy has shape {u.shape}, expected {self._log_p.shape[::-1]}")
        self._log_p = np.negative(u.T, dtype=np.float32, order="C", casting="same_kind")

    def setUnary(self, unary: ConstUnary) -> None:  # noqa: N802
        """Set the unary energy by a `ConstUnary`."""
        if not isinstance(unary, ConstUnary):
            raise NotImplementedError(f"setUnary: {type(unary).__name__} is not implemented, only ConstUnary")
        self.setUnaryEnergy(unary.u)

    def addPairwiseEnergy(  # noqa: N802
        self,
        features: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel of the difference of any features.

        Parameters
        ----------
        features : ndarray of shape (d, npixels), float32
            In standard deviations of the kernel.
        compat : float or ndarray of shape (nlabels,) or (nlabels, nlabels)
            A number is what it costs that two near points differ (Potts). An array is added to the energy as it is:
            of shape (nlabels,) where they agree, for each class; else for each pair of classes, made symmetric.
        kernel : int
            One of `KernelType`, which are all the same here.
        normalization : int
            One of `NormalizationType`.

        Raises
        ------
        ValueError
            If a shape does not fit, features are not finite or too large, or a type is unknown.
        """
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != len(self._log_p):
            raise ValueError(f"the features have shape {features.shape}, expected (d, {len(self._log_p)})")
        self._add(partial(build_lattice, features), compat, kernel, normalization)

    def _add(self, lattice: Callable[..., Lattice], compat: float | np.ndarray, kernel: int, normalization: int) -> None:
        KernelType(kernel)
        gains = _gains(compat, self._log_p.shape[1])
        normalisation = NORMALISATIONS[NormalizationType(normalization)]
        self._pairwise.append(Pairwise(lattice(threads=self._threads, normalisation=normalisation), gains))

    def inference(self, niter: int) -> np.ndarray:
        """Return the probabilities after some steps, of shape (nlabels, npixels), float32."""
        q = softmax(self._log_p, self._threads)
        infer(self._log_p, self._pairwise, q, niter, self._threads)
        return q.T

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: N802
        """Return the probabilities without any pairwise energy, and two arrays for pydensecrf's users to pass on."""
        return softmax(self._log_p, self._threads).T, *np.empty((2, 0, 0), np.float32)

    def stepInference(self, Q: np.ndarray, tmp1: object = None, tmp2: object = None) -> None:  # noqa: N802, N803
        """Take one step, in place; only `Q` counts, as of `startInference`."""
        q = np.ascontiguousarray(Q.T, np.float32)
        infer(self._log_p, self._pairwise, q, 1, self._threads)
        if not np.shares_memory(q, Q):
            Q[:] = q.T

    def klDivergence(self, Q: np.ndarray) -> float:  # noqa: N802, N803
        """Return the divergence of probabilities from the CRF's, but for a constant: what each step should lower."""
        q = np.ascontiguousarray(np.asarray(Q).T, np.float32)
        energy = -self._log_p.astype(np.float64)
        for one in self._pairwise:
            filtered = filter_lattice(one.lattice, q, self._threads)
            energy -= filtered * one.gains if one.gains.ndim == 1 else filtered @ one.gains
        return float((q * (energy + np.log(q.clip(1e-20)))).sum())


class DenseCRF2D(DenseCRF):
    """A dense CRF over an image's pixels, row by row, called as pydensecrf's.

    Parameters
    ----------
    w, h : int
        The image's width and height.
    nlabels : int
        Number of classes.
    threads : int
        The result is the same for any number.
    """

    def __init__(self, w: int, h: int, nlabels: int, threads: int = 1) -> None:
        super().__init__(w * h, nlabels, threads)
        self._shape = (h, w, 3)

    def addPairwiseGaussian(  # noqa: N802
        self,
        sxy: float | tuple[float, float],
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel of the distance: `sxy` is its standard deviation in px, or those of x and of y.

        The other parameters are those of `addPairwiseEnergy`.
        """
        anything = np.broadcast_to(np.uint8(0), self._shape)
        self._add(partial(image_lattice, anything, sxy), compat, kernel, normalization)

    def addPairwiseBilateral(  # noqa: N802
        self,
        sxy: float | tuple[float, float],
        srgb: float | tuple[float, float, float],
        rgbim: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel of the distance and of the difference of colours.

        Parameters
        ----------
        sxy : float or (float, float)
            Standard deviation in px, or those of x and of y.
        srgb : float or (float, float, float)
            Standard deviation in grey levels, or those of the channels.
        rgbim : ndarray of shape (h, w, 3), uint8
        compat, kernel, normalization
            As of `addPairwiseEnergy`.

        Raises
        ------
        ValueError
            If the image's shape or type is another: for other images, see `create_pairwise_bilateral`.
        """
        rgbim = np.asarray(rgbim)
        if rgbim.shape != self._shape or rgbim.dtype != np.uint8:
            raise ValueError(f"rgbim is {rgbim.dtype} of shape {rgbim.shape}, expected uint8 of shape {self._shape}")
        self._add(partial(image_lattice, rgbim, sxy, srgb), compat, kernel, normalization)


def _gains(compat: float | np.ndarray, nlabels: int) -> np.ndarray:
    compat = np.asarray(compat, np.float32)
    if compat.ndim == 0:
        return np.full(nlabels, compat)
    if compat.shape not in ((nlabels,), (nlabels, nlabels)):
        raise ValueError(f"compat has shape {compat.shape}, expected a number, ({nlabels},) or ({nlabels}, {nlabels})")
    return -compat if compat.ndim == 1 else -(compat + compat.T) / 2
