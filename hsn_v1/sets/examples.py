"""What the notebooks look at: images with their ground truth, and what a run wrote of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..io import tree
from ..io.images import read_image
from ..io.masks import mask_name, read_mask
from ..labels import LabelSet
from ..show.panels import Row, case
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


def written_case(settings: Settings, file: str, miou: float, label_set: LabelSet) -> Row:
    """Return a row of an image, its ground truth and the final mask that a run wrote."""
    (path,) = (path for path in settings.images if path.name == file)
    example = read_example(settings, path)
    written = tree.final_masks(settings.out, label_set.name) / mask_name(file)
    mask = read_mask(written, label_set).labels
    return case(
        example.image, example.truths[label_set.name], {"CRF": mask}, label_set, f"{path.stem}\nmIoU {miou:.2f}"
    )
