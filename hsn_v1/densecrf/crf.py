"""Stage 4: a fully connected CRF, which moves the segmentation's borders to those of the image.

The unary energy of `CRF` is U_i(l) = -log p_i(l), with the adjusted maps as probabilities p. Its Gaussian kernel
depends on the distance of two pixels, its bilateral kernel also on the difference of their colours. Both are normalised
symmetrically (docs/method.md, stage 4; for the inference, see `meanfield`).
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import InputError
from .features import image_lattice
from .lattice_filter import Lattice
from .meanfield import Pairwise, free_energy, infer, softmax

LARGE = 1 << 18  #: least number of pixels of an image that several threads share
BACKENDS = ("numba", "pydensecrf")

LONGEST = 1 << 16  #: greatest size of a settings file, in bytes

#: Least and greatest value of each setting: narrower kernels reach no neighbour, and larger numbers overflow.
LIMITS = {
    "gauss_sxy": (0.5, 500),
    "gauss_compat": (0, 1e4),
    "bilat_sxy": (0.5, 500),
    "bilat_srgb": (0.5, 1e4),
    "bilat_compat": (0, 1e4),
    "iterations": (1, 1000),
}


@dataclass(frozen=True)
class Step:
    """State of mean field after a step."""

    probabilities: np.ndarray  #: (C, H, W) float32, in 0..1
    energy: float  #: free energy, which falls from step to step; see `meanfield.free_energy`


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
        Implementation: this package's, or the library of the published code.

    Examples
    --------
    >>> maps = np.array([[[0.9, 0.4, 0.4]], [[0.1, 0.6, 0.6]]], np.float32)
    >>> image = np.array([[[200, 0, 0], [200, 0, 0], [0, 0, 200]]], np.uint8)
    >>> CRF(gauss_compat=1)(maps, image).argmax(axis=0)
    array([[0, 0, 1]])
    """

    gauss_sxy: float = 3
    gauss_compat: float = 30
    bilat_sxy: float = 10
    bilat_srgb: float = 20
    bilat_compat: float = 50
    iterations: int = 5
    backend: str = "numba"

    @classmethod
    def from_file(cls, path: Path, file_iterations: bool = False) -> CRF:
        """Read the settings from a published file of six numbers: this class's attributes in order, less the backend.

        Parameters
        ----------
        path : Path
        file_iterations : bool
            Whether to use the last number; the published loader ignores it and takes five iterations.

        Raises
        ------
        InputError
            If the file does not hold six numbers, or one of them is out of its range.
        """
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device may never end
            raise InputError(f"{path}: not a regular file; give a file of NumPy's, or remove it")
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
        *weights, iterations = settings.ravel().tolist()
        crf = cls(*weights, iterations=int(iterations)) if file_iterations else cls(*weights)
        crf.check(str(path))
        return crf

    def check(self, source: str) -> None:
        """Raise InputError if a setting is out of its `LIMITS`; the message begins with `source`."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{source}: {name} is {value:g}, expected {least:g} to {most:g}")

    @property
    def reach(self) -> int:
        """Distance in px beyond which pixels hardly affect each other: the margin that a window needs."""
        return math.ceil(3 * max(self.gauss_sxy, self.bilat_sxy))

    def __call__(
        self, maps: np.ndarray, image: np.ndarray, threads: int = 1, lattice: Callable[..., Lattice] | None = None
    ) -> np.ndarray:
        """Refine adjusted maps.

        Parameters
        ----------
        maps : ndarray of shape (C, H, W), float32, in 0..1
            Classes whose map is 0 everywhere do not compete.
        image : ndarray of shape (H, W, 3), uint8
        threads : int
            The result is the same for any number.
        lattice : callable, optional
            Returns the image's lattice for a kernel's widths. Default: `image_lattice` of this image. A cached function
            (`functools.cache`) lets label sets of one image share lattices.

        Returns
        -------
        ndarray of shape (C, H, W), float32, in 0..1
            Probability of each class; all 0 if no class competes.

        Raises
        ------
        InputError
            If the sizes of maps and image differ, or the image is not uint8.
        """
        check_arrays(maps, image)
        refined = np.zeros(maps.shape, np.float32)
        competing = [c for c, class_map in enumerate(maps) if class_map.any()]
        if len(competing) == 1:
            refined[competing] = 1
        elif len(competing) > 1 and self.backend == "pydensecrf":
            refined[competing] = _infer_by_pydensecrf(self, maps[competing], image)
        elif len(competing) > 1:
            lattice = lattice or partial(image_lattice, image, threads=threads)
            log_p, pairwise = _problem(self, [maps[c] for c in competing], lattice)
            q = softmax(log_p, threads)  # (N, C)
            infer(log_p, pairwise, q, self.iterations, threads)
            refined[competing] = q.T.reshape(-1, *maps.shape[1:])
        return refined

    def steps(self, maps: np.ndarray, image: np.ndarray, threads: int = 1) -> Iterator[Step]:
        """Refine adjusted maps step by step: yield the start, then the result of each of the `iterations`.

        Parameters and errors are those of a call, which returns the probabilities of the last step.
        """
        check_arrays(maps, image)
        competing = [c for c, class_map in enumerate(maps) if class_map.any()]
        log_p, pairwise = _problem(self, [maps[c] for c in competing], partial(image_lattice, image, threads=threads))
        q = softmax(log_p, threads)  # (N, C)
        for step in range(self.iterations + 1):
            if step:
                infer(log_p, pairwise, q, 1, threads)
            refined = np.zeros(maps.shape, np.float32)
            refined[competing] = q.T.reshape(-1, *maps.shape[1:])
            yield Step(refined, free_energy(log_p, pairwise, q, threads))


def check_arrays(maps: np.ndarray, image: np.ndarray) -> None:
    """Raise InputError unless the maps have the shape (C, H, W), and the image is uint8 of shape (H, W, 3)."""
    if maps.ndim != 3 or image.shape != (*maps.shape[1:], 3):
        raise InputError(
            f"maps of shape {maps.shape} and image of shape {image.shape} do not agree; expected (classes, height, "
            "width) and (height, width, 3)"
        )
    if image.dtype != np.uint8:
        raise InputError(f"image is {image.dtype}; expected uint8, RGB in 0 to 255, as it was read")


def load_compiled() -> None:
    """Load the compiled code, by refining a tiny image: loading takes longer than refining a patch."""
    for classes in (2, 3, 5):  # class loops of different kinds are compiled separately
        CRF()(np.ones((classes, 2, 2), np.float32), np.zeros((2, 2, 3), np.uint8))


def _problem(crf: CRF, maps: list[np.ndarray], lattice: Callable[..., Lattice]) -> tuple[np.ndarray, list[Pairwise]]:
    """Return the log-probabilities, (N, C), and the kernels."""
    classes = len(maps)
    kernels = ((crf.gauss_sxy,), crf.gauss_compat), ((crf.bilat_sxy, crf.bilat_srgb), crf.bilat_compat)
    pairwise = [Pairwise(lattice(*widths), np.full(classes, compat, np.float32)) for widths, compat in kernels]
    log_p = np.empty((maps[0].size, classes), np.float32)
    for column, class_map in zip(log_p.T, maps, strict=True):
        column[:] = np.log(class_map.clip(1e-5, 1)).ravel()
    return log_p, pairwise


def _infer_by_pydensecrf(crf: CRF, maps: np.ndarray, image: np.ndarray) -> np.ndarray:
    try:
        from pydensecrf.densecrf import DIAG_KERNEL, NORMALIZE_SYMMETRIC, DenseCRF2D
    except ImportError as error:
        raise InputError("crf is 'pydensecrf', which is not installed: pip install pydensecrf2") from error

    classes, height, width = maps.shape
    inference = DenseCRF2D(width, height, classes)
    inference.setUnaryEnergy(-np.log(maps.clip(1e-5, 1)).reshape(classes, -1))
    kernel = {"kernel": DIAG_KERNEL, "normalization": NORMALIZE_SYMMETRIC}
    inference.addPairwiseGaussian(crf.gauss_sxy, crf.gauss_compat, **kernel)
    colours = np.array(image, order="C")
    inference.addPairwiseBilateral(crf.bilat_sxy, crf.bilat_srgb, colours, crf.bilat_compat, **kernel)
    return np.reshape(inference.inference(crf.iterations), maps.shape)
