"""Pen marks on the cover slip: flat areas, dark and grey, or green or blue as no H&E stain is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, label, uniform_filter

GREY = 30  #: difference of R, G and B up to which what is dark is ink, in 0..255: dark nuclei are purple
DARK = 0.45  #: optical density that black ink has at least in R, G and B: 35 % of the light passes
DYED = 0.2  #: optical density in R that green and blue ink has at least
GREEN = 1.2  #: its density in R to that in G, at least: H&E absorbs more green than red
BLUE = 0.95, 2.7  #: densities in R to those in G and in B, at least: haematoxylin's are 0.9 and 2.2
FLAT = 8  #: standard deviation of the brightness around a pixel up to which it is flat
FLAT_SHARE = 0.25  #: share of flat px that a mark has at least: a thin stroke is mostly edge
LEAST = 64  #: px of the picture that a mark has at least, next to each other
MARGIN = 2  #: px around a mark, in which it fades


@dataclass(frozen=True)
class PenMarks:
    """Where there are pen marks."""

    where: np.ndarray  #: (h, w) bool, with a margin
    colours: tuple[str, ...] = ()  #: of "dark", "green", "blue"
    share: float = 0.0  #: of the tissue, in 0..1


def find_pen_marks(picture: np.ndarray, tissue: np.ndarray) -> PenMarks:
    """Find pen marks, in the picture that `tissue.find_tissue` gets, among the pixels that are darker than glass."""
    where, colours = np.zeros_like(tissue), []
    for colour, ink in _inks(picture).items():
        marks, count = label(ink & tissue, np.ones((3, 3)))
        area = np.bincount(marks.ravel(), minlength=count + 1)
        flat = np.bincount(marks[_deviation(picture, marks > 0) <= FLAT], minlength=count + 1)
        kept = (area >= LEAST) & (flat >= FLAT_SHARE * area)
        kept[0] = False
        if kept.any():
            where |= kept[marks]
            colours.append(colour)
    share = (where & tissue).sum() / max(1, tissue.sum())
    return PenMarks(binary_dilation(where, iterations=MARGIN), tuple(colours), float(share))


def _inks(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Return which pixels, (h, w) bool, may be ink of each colour."""
    red, green, blue = density = -np.log10((np.moveaxis(picture, -1, 0) + np.float32(1)) / 256)
    dark = (density.min(axis=0) >= DARK) & (np.ptp(picture, axis=-1) <= GREY)
    dyed = (red >= DYED) & ~dark
    greenish = dyed & (red >= GREEN * green) & (green <= blue)
    bluish = (red >= GREEN * green) | ((red >= BLUE[0] * green) & (red >= BLUE[1] * blue))
    return {"dark": dark, "green": greenish, "blue": dyed & bluish & ~greenish}


def _deviation(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the brightness around each pixel of a mask, (h, w), among the mask's pixels."""
    brightness = picture.mean(axis=-1, dtype=np.float32)
    share = np.maximum(uniform_filter(where.astype(np.float32), 3), 1e-6)
    mean, square = (uniform_filter(where * values, 3) / share for values in (brightness, brightness**2))
    return np.where(where, np.sqrt(np.maximum(square - mean**2, 0)), np.inf)
