"""Stage 4: a fully connected CRF, which moves the segmentation's borders to those of the image.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials", NIPS 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError

ITERATIONS = 5  #: mean-field steps; the published loader ignores the number in its own files, which is 5 as well


@dataclass(frozen=True)
class DenseCRF:
    """A dense CRF with Potts compatibility and five named weights (`method.md`, stage 4).

    Attributes
    ----------
    gauss_sxy, gauss_compat : float
        Width in px and strength of the Gaussian term, which smooths.
    bilat_sxy, bilat_srgb, bilat_compat : float
        Widths in px and in grey levels, and strength of the bilateral term, which follows the image's edges.
    """

    gauss_sxy: float = 3
    gauss_compat: float = 30
    bilat_sxy: float = 10
    bilat_srgb: float = 20
    bilat_compat: float = 50

    @classmethod
    def from_file(cls, path: Path) -> DenseCRF:
        """Read the settings from a file of six numbers, as published: those of this class, and the iterations.

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

    def __call__(self, maps: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Refine adjusted maps.

        Parameters
        ----------
        maps : ndarray of shape (C, H, W), float32, in 0..1
            Classes without any mass take no part.
        image : ndarray of shape (H, W, 3), uint8

        Returns
        -------
        ndarray of shape (C, H, W), float32, in 0..1
            Probability of each class; all 0 where no class has any mass.
        """
        refined = np.zeros_like(maps)
        competing = np.flatnonzero(maps.any(axis=(1, 2)))
        if len(competing) == 1:
            refined[competing] = 1
        elif len(competing) > 1:
            refined[competing] = self._infer(maps[competing], image)
        return refined

    def _infer(self, maps: np.ndarray, image: np.ndarray) -> np.ndarray:
        from pydensecrf.densecrf import DIAG_KERNEL, NORMALIZE_SYMMETRIC, DenseCRF2D

        classes, height, width = maps.shape
        crf = DenseCRF2D(width, height, classes)
        crf.setUnaryEnergy(-np.log(maps.clip(1e-5, 1)).reshape(classes, -1))
        kernel = {"kernel": DIAG_KERNEL, "normalization": NORMALIZE_SYMMETRIC}
        crf.addPairwiseGaussian(sxy=self.gauss_sxy, compat=self.gauss_compat, **kernel)
        crf.addPairwiseBilateral(
            sxy=self.bilat_sxy,
            srgb=self.bilat_srgb,
            rgbim=np.ascontiguousarray(image),
            compat=self.bilat_compat,
            **kernel,
        )
        return np.reshape(crf.inference(ITERATIONS), maps.shape)
