"""The calls of pydensecrf, over this package's mean field: import them from `densecrf` (docs/densecrf.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import numpy as np

from .features import Deviations, image_lattice
from .lattice_filter import Lattice
from .meanfield import Pairwise, free_energy, infer, softmax
from .permutohedral import NORMALISATIONS, build_lattice

#: Kernels by the parameters that pydensecrf could learn; inference is the same with all three.
KernelType = IntEnum("KernelType", ["CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL"], start=0)

#: Normalisations of a kernel, in the order of `permutohedral.NORMALISATIONS`.
NormalizationType = IntEnum(
    "NormalizationType", ["NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC"], start=0
)

CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType

Compat = float | np.ndarray


@dataclass(frozen=True)
class ConstUnary:
    """A constant unary energy, for `DenseCRF.setUnary`."""

    u: np.ndarray


class DenseCRF:
    """A dense CRF over any points, with the calls of pydensecrf's.

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
            If the shape differs.
        NotImplementedError
            If `f`, a logistic unary for learning, is given.
        """
        if f is not None:
            raise NotImplementedError("setUnaryEnergy: a logistic unary (f) is not implemented, only a constant one")
        u = np.asarray(u)
        if u.shape != self._log_p.shape[::-1]:
            raise ValueError(f"the unary energy has shape {u.shape}, expected {self._log_p.shape[::-1]}")
        self._log_p = np.negative(u.T, dtype=np.float32, order="C", casting="same_kind")

    def setUnary(self, unary: ConstUnary) -> None:  # noqa: N802
        """Set the unary energy to that of a `ConstUnary`."""
        if not isinstance(unary, ConstUnary):
            raise NotImplementedError(f"setUnary: {type(unary).__name__} is not implemented, only ConstUnary")
        self.setUnaryEnergy(unary.u)

    def addPairwiseEnergy(  # noqa: N802
        self, features: np.ndarray, compat: Compat, kernel: int = DIAG_KERNEL, normalization: int = NORMALIZE_SYMMETRIC
    ) -> None:
        """Add a kernel of the difference of two points' features.

        Parameters
        ----------
        features : ndarray of shape (d, npixels), float32
            In standard deviations of the kernel.
        compat : float or ndarray of shape (nlabels,) or (nlabels, nlabels)
            A number is the cost of different classes at two near points (Potts). An array is added to the energy:
            (nlabels,) per class where both points have it; (nlabels, nlabels) per pair of classes, made symmetric.
        kernel : int
            One of `KernelType`, which all act alike here.
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

    def _add(self, lattice: Callable[..., Lattice], compat: Compat, kernel: int, normalization: int) -> None:
        KernelType(kernel)
        gains = _gains(compat, self._log_p.shape[1])
        normalisation = NORMALISATIONS[NormalizationType(normalization)]
        self._pairwise.append(Pairwise(lattice(threads=self._threads, normalisation=normalisation), gains))

    def inference(self, niter: int) -> np.ndarray:
        """Return the probabilities after `niter` steps, (nlabels, npixels) float32."""
        q = softmax(self._log_p, self._threads)
        infer(self._log_p, self._pairwise, q, niter, self._threads)
        return q.T

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: N802
        """Return the probabilities of the unary energy alone, and two placeholders for `stepInference`."""
        return softmax(self._log_p, self._threads).T, *np.empty((2, 0, 0), np.float32)

    def stepInference(self, Q: np.ndarray, tmp1: object = None, tmp2: object = None) -> None:  # noqa: N802, N803
        """Take one step: update `Q`, which `startInference` returns, in place; the placeholders are ignored."""
        q = np.ascontiguousarray(Q.T, np.float32)
        infer(self._log_p, self._pairwise, q, 1, self._threads)
        if not np.shares_memory(q, Q):
            Q[:] = q.T

    def klDivergence(self, Q: np.ndarray) -> float:  # noqa: N802, N803
        """Return the divergence of probabilities from the CRF's, up to a constant; each step should lower it."""
        q = np.ascontiguousarray(np.asarray(Q).T, np.float32)
        return free_energy(self._log_p, self._pairwise, q, self._threads, share=1)  # as in pydensecrf


class DenseCRF2D(DenseCRF):
    """A dense CRF over an image's pixels, row by row, with the calls of pydensecrf's.

    Parameters
    ----------
    w, h : int
        The image's width and height.
    nlabels : int
        Number of classes.
    threads : int
        The result is the same for any number.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.4, 0.4], [0.1, 0.6, 0.6]])
    >>> image = np.array([[[200, 0, 0], [200, 0, 0], [0, 0, 200]]], np.uint8)
    >>> crf = DenseCRF2D(3, 1, 2)
    >>> crf.setUnaryEnergy(-np.log(probabilities))
    >>> crf.addPairwiseBilateral(sxy=3, srgb=20, rgbim=image, compat=5)
    >>> crf.inference(5).argmax(axis=0)
    array([0, 0, 1])
    """

    def __init__(self, w: int, h: int, nlabels: int, threads: int = 1) -> None:
        super().__init__(w * h, nlabels, threads)
        self._shape = (h, w, 3)

    def addPairwiseGaussian(  # noqa: N802
        self, sxy: Deviations, compat: Compat, kernel: int = DIAG_KERNEL, normalization: int = NORMALIZE_SYMMETRIC
    ) -> None:
        """Add a Gaussian kernel of the distance; `sxy` is its standard deviation in px, or those of x and of y.

        The other parameters are those of `addPairwiseEnergy`.
        """
        anything = np.broadcast_to(np.uint8(0), self._shape)
        self._add(partial(image_lattice, anything, sxy), compat, kernel, normalization)

    def addPairwiseBilateral(  # noqa: N802
        self,
        sxy: Deviations,
        srgb: Deviations,
        rgbim: np.ndarray,
        compat: Compat,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a bilateral kernel of the distance and of the difference of colours.

        Parameters
        ----------
        sxy : float or (float, float)
            Standard deviation in px, or those of x and of y.
        srgb : float or (float, float, float)
            Standard deviation in grey levels, or those of the channels.
        rgbim : ndarray of shape (h, w, 3), uint8
        compat, kernel, normalization
            See `addPairwiseEnergy`.

        Raises
        ------
        ValueError
            If the image's shape or dtype differs; for other images, see `create_pairwise_bilateral`.
        """
        rgbim = np.asarray(rgbim)
        if rgbim.shape != self._shape or rgbim.dtype != np.uint8:
            raise ValueError(f"rgbim is {rgbim.dtype} of shape {rgbim.shape}, expected uint8 of shape {self._shape}")
        self._add(partial(image_lattice, rgbim, sxy, srgb), compat, kernel, normalization)


def _gains(compat: Compat, nlabels: int) -> np.ndarray:
    compat = np.asarray(compat, np.float32)
    if compat.ndim == 0:
        return np.full(nlabels, compat)
    if compat.shape not in ((nlabels,), (nlabels, nlabels)):
        raise ValueError(f"compat has shape {compat.shape}, expected a number, ({nlabels},) or ({nlabels}, {nlabels})")
    return -compat if compat.ndim == 1 else -(compat + compat.T) / 2
