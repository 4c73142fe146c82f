"""Stain normalisation: an image's colours brought to those that a classifier was trained on.

Reinhard et al., "Color Transfer between Images", IEEE Computer Graphics and Applications 2001: mean and standard
deviation of tissue in the CIELAB colour space, which is nearly decorrelated.
"""

from __future__ import annotations

import cv2
import numpy as np

from .labels import Stain

BRIGHTEST = 90.0  #: lightness (L* of CIELAB, 0..100) from which on a pixel counts as glass
FEWEST = 500  #: pixels of tissue below which all pixels count


def normalise_stain(image: np.ndarray, statistics: np.ndarray, stain: Stain) -> np.ndarray:
    """Bring an image's colours, (H, W, 3) uint8 RGB, to those that a classifier knows tissue in.

    The `stain_statistics` are those of the whole image or slide.
    """
    mean, std = statistics
    lab = (_lab(image) - mean) / np.maximum(std, 1) * stain.std + stain.mean
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return (rgb * 255).clip(0, 255).astype(np.uint8)


def stain_statistics(image: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation, (2, 3) float64, of L*, a* and b* of the tissue in an RGB image (H, W, 3)."""
    lab = _lab(image).reshape(-1, 3)
    tissue = lab[lab[:, 0] < BRIGHTEST]
    tissue = tissue if len(tissue) >= FEWEST else lab
    return np.stack([tissue.mean(axis=0, dtype=np.float64), tissue.std(axis=0, dtype=np.float64)])


def _lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
