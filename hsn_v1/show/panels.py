"""Label maps in their colours, with their key: as rows of a sheet, or on Matplotlib's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ..labels import LabelSet
from .figures import STAGE_TITLES, colourise, overlay
from .hatching import PERIOD, hatch, hatches
from .sheets import KEY, Row, Swatch, frame, key_of

PANEL = 224  #: side of a panel, in px, about


def swatches(label_maps: Sequence[np.ndarray], label_set: LabelSet) -> list[Swatch]:
    """Return the swatch of each class that occurs, and black for unlabelled pixels."""
    present, kinds = set(np.unique(np.concatenate([np.unique(labels) for labels in label_maps]))), hatches(label_set)
    key = [
        Swatch(label_set.describe(code), label_set.colours[code], kinds[code])
        for c, code in enumerate(label_set.codes)
        if c in present
    ]
    return [*key, Swatch("unlabelled", (0, 0, 0))] if len(label_set) in present else key


def case(
    image: np.ndarray, truth: np.ndarray, masks: Mapping[str, np.ndarray], label_set: LabelSet, label: str = ""
) -> Row:
    """Return a row of an image, its ground truth and its masks after some stages, in the published colours.

    The image is (H, W, 3) uint8, the masks are class indices, (H, W) uint8; `label` stands at the left of the row.
    """
    shown = {"ground truth": truth, **{STAGE_TITLES[stage]: mask for stage, mask in masks.items()}}
    panels = [("image", image), *((title, painted(labels, label_set)) for title, labels in shown.items())]
    return Row(panels, swatches([*shown.values()], label_set), label)


def plot(labels: np.ndarray, image: np.ndarray, label_set: LabelSet, axes: Axes) -> None:
    """Show a label map over its image on Matplotlib's axes, with its classes as the legend, to the right.

    Parameters
    ----------
    labels : ndarray of shape (H, W), uint8
        Class indices; the number of classes where the pixel is unlabelled.
    image : ndarray of shape (H, W, 3), uint8
    label_set : LabelSet
    axes : matplotlib.axes.Axes
        Such as ``plt.gca()``.

    Raises
    ------
    InputError
        If an argument is of no use, or the sizes differ.
    """
    axes.imshow(overlay(labels, image, label_set, period_of(labels)))
    frame(axes)
    key = swatches([labels], label_set)
    place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1)}
    axes.legend([key_of(swatch) for swatch in key], [swatch.name for swatch in key], **KEY, **place)


def painted(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paint class indices in the published colours, with hatching where these look alike."""
    return hatch(colourise(labels, label_set), labels, label_set, period_of(labels))


def period_of(labels: np.ndarray) -> int:
    """Return the distance of the hatching's lines in a label map's px, so that a panel shows them apart."""
    return round(PERIOD * max(1, max(labels.shape) / PANEL))
