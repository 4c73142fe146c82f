"""An image of a set with its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..io.images import read_image
from .measure import read_truths
from .settings import Settings


@dataclass(frozen=True)
class Example:
    """An image with its ground truth.

    Attributes
    ----------
    file : str
    image : ndarray of shape (H, W, 3), uint8
    truths : dict of str to ndarray of shape (H, W), uint8
        Class indices by the label set's name; the number of classes where the pixel is unlabelled.
    """

    file: str
    image: np.ndarray
    truths: dict[str, np.ndarray]


def read_example(settings: Settings, path: Path) -> Example:
    """Read one of the images, with its ground truth.

    Raises
    ------
    InputError
        If one of the files is missing or no image.
    """
    image, _ = read_image(path)
    truths = read_truths(settings, path, image.shape[:2])
    return Example(path.name, image, {name: truth.labels for name, truth in truths.items()})
