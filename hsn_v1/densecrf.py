"""Stage 4: a fully connected CRF, which moves the segmentation's borders to those of the image.

With x_i the class of pixel i, and p its probability by the adjusted maps, the energy of Krähenbühl and Koltun is ::

    E(x)  =  sum_i U_i(x_i)  +  sum_(i<j) [x_i != x_j] (c_g g(i, j) + c_b b(i, j))        U_i(l) = -log p_i(l)

where the kernel g is a Gaussian of the distance of two pixels, and b (bilateral) one of their distance and of the
difference of their colours, both normalised symmetrically; c_g and c_b are the compatibilities. Mean field
approximates exp(-E(x)) by a product of independent Q_i(x_i), in steps of ::

    Q_i(l)  <-  softmax_l( -U_i(l)  +  c_g sum_j g(i, j) Q_j(l)  +  c_b sum_j b(i, j) Q_j(l) )

which are one filtering of Q by each kernel (see `permutohedral`). The sums are taken in the order of pydensecrf,
whose probabilities this reproduces bit for bit: mean field enlarges the last bits of pixels that are near to a tie.

P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numba import njit

from .errors import InputError
from .permutohedral import LANES, Lattice, build_lattice, each, filter_lattice, spans

LARGE = 1 << 18  #: pixels from which on the threads share one image

BACKENDS = ("numba", "pydensecrf")

LONGEST = 1 << 16  #: bytes of a file of settings

#: Least and greatest settings: narrower kernels reach no neighbour, and larger numbers overflow.
LIMITS = {
    "gauss_sxy": (0.5, 500),
    "gauss_compat": (0, 1e4),
    "bilat_sxy": (0.5, 500),
    "bilat_srgb": (0.5, 1e4),
    "bilat_compat": (0, 1e4),
}


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
            If the file does not hold six numbers, or one of them is out of its range.
        """
        try:
            with open(path, "rb") as file:
                settings = np.lib.format.read_array(io.BytesIO(file.read(LONGEST)), allow_pickle=False)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except Exception as error:  # NumPy raises whatever it meets in a broken file
            raise InputError(f"{path}: not a file of NumPy's; get the file again, or remove it") from error
        if settings.size != 6 or settings.dtype.kind not in "iuf" or not (settings > 0).all():
            raise InputError(
                f"{path}: holds {settings.size} values of type {settings.dtype}, expected 6 positive numbers: "
                "gauss_sxy, gauss_compat, bilat_sxy, bilat_srgb, bilat_compat, iterations"
            )
        crf = cls(*settings.ravel()[:5].tolist())
        crf.check(str(path))
        return crf

    def check(self, source: str) -> None:
        """Raise InputError, which begins with `source`, if a setting is out of the range that float32 can do with."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{source}: {name} is {value:g}, expected {least:g} to {most:g}")

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
        refined = np.zeros_like(maps)
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
    terms = (
        (lattice(crf.gauss_sxy), crf.gauss_compat),
        (lattice(crf.bilat_sxy, crf.bilat_srgb), crf.bilat_compat),
    )

    # One row per pixel, filled up to a width that the processor likes: what is filled up takes part in the filter, but
    # not in Q.
    classes, n = len(maps), maps[0].size
    width = next((width for width in (1, 2, 4) if classes <= width), -(-classes // 8) * 8)
    log_p = np.zeros((n, width), np.float32)
    np.log(maps.clip(1e-5, 1).reshape(classes, n).T, out=log_p[:, :classes])
    logits, q = log_p.copy(), np.zeros_like(log_p)
    softmax = [(logits, q, classes, *span) for span in spans(n, threads)]
    each(threads, _softmax, softmax)
    for _ in range(crf.iterations):
        logits[:] = log_p
        for kernel, compat in terms:
            filter_lattice(kernel, q, threads, logits, compat)
        each(threads, _softmax, softmax)
    return q[:, :classes].T.reshape(maps.shape)


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


def image_lattice(image: np.ndarray, sxy: float, srgb: float | None = None, threads: int = 1) -> Lattice:
    """Return the lattice of an image's pixels, by row and column, and by colour if `srgb` is given.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Only its size counts without `srgb`.
    sxy, srgb : float
        Standard deviations, in px and in grey levels.
    threads : int

    Returns
    -------
    Lattice
    """
    height, width = image.shape[:2]
    if srgb is None:
        return (_patch_grid if height * width < LARGE else _grid)(height, width, sxy, threads)
    features = _features(height, width, sxy, 5)
    features[2:, : height * width] = image.reshape(-1, 3).T / np.float32(srgb)
    return build_lattice(features, threads, silent=features.shape[1] - height * width)


def _grid(height: int, width: int, sxy: float, threads: int) -> Lattice:
    features = _features(height, width, sxy, 2)
    return build_lattice(features, threads, silent=features.shape[1] - height * width)


_patch_grid = lru_cache(maxsize=4)(_grid)  # patches are often of one size


def _features(height: int, width: int, sxy: float, d: int) -> np.ndarray:
    # pydensecrf embeds four pixels at a time, and fills up with black at row and column 0: without a value, but with
    # vertices which the blur passes through.  One silent pixel does the same.
    n = height * width
    features = np.zeros((d, n + (n % 4 > 0)), np.float32)
    grid = features[:2, :n].reshape(2, height, width)
    grid[0] = np.arange(width, dtype=np.float32) / np.float32(sxy)
    grid[1] = (np.arange(height, dtype=np.float32) / np.float32(sxy))[:, np.newaxis]
    return features


@njit(cache=True, nogil=True)
def _softmax(logits, q, classes, start, stop):
    """Softmax over the classes, as Eigen computes it on SSE: four classes at a time, the rest one by one."""
    fours, eights = classes - classes % 4, classes - classes % 8
    tile = np.zeros((classes, LANES), np.float32)
    largest = np.empty(LANES, np.float32)
    total = np.empty(LANES, np.float32)
    sums = np.empty((8, LANES), np.float32)
    exponent = np.empty(LANES, np.int32)
    power = exponent.view(np.float32)
    for first in range(start, stop, LANES):
        live = min(LANES, stop - first)
        for n in range(live):
            for k in range(classes):
                tile[k, n] = logits[first + n, k]
        largest[:] = -np.inf
        for k in range(classes):
            for n in range(LANES):
                largest[n] = max(largest[n], tile[k, n])
        for k in range(fours):
            # The exponential of Cephes: exp(x) = 2^m exp(r) with r at most log(2) / 2, and a polynomial for exp(r).
            for n in range(LANES):
                x = max(tile[k, n] - largest[n], np.float32(-88.3762626647949))
                m = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
                r = x - m * np.float32(0.693359375) - m * np.float32(-2.12194440e-4)
                y = np.float32(1.9875691500e-4)
                y = y * r + np.float32(1.3981999507e-3)
                y = y * r + np.float32(8.3334519073e-3)
                y = y * r + np.float32(4.1665795894e-2)
                y = y * r + np.float32(1.6666665459e-1)
                y = y * r + np.float32(5.0000001201e-1)
                tile[k, n] = y * (r * r) + r + np.float32(1)
                exponent[n] = (np.int32(m) + np.int32(127)) << np.int32(23)  # the bits of 2^m
            for n in range(LANES):
                tile[k, n] *= power[n]
        for k in range(fours, classes):
            for n in range(LANES):
                tile[k, n] = math.exp(tile[k, n] - largest[n])
        sums[:] = 0
        for k in range(eights):
            for n in range(LANES):
                sums[k % 8, n] += tile[k, n]
        for k in range(4):
            for n in range(LANES):
                sums[k, n] += sums[k + 4, n]
        for k in range(eights, fours):
            for n in range(LANES):
                sums[k % 4, n] += tile[k, n]
        for n in range(LANES):
            total[n] = (sums[0, n] + sums[2, n]) + (sums[1, n] + sums[3, n])
        for k in range(fours, classes):
            for n in range(LANES):
                total[n] += tile[k, n]
        for n in range(live):
            for k in range(classes):
                q[first + n, k] = tile[k, n] / total[n]
