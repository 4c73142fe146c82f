"""Hatch classes whose published colours look alike: in figures and legends, never in masks."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..labels import Colour, LabelSet

#: Colours closer than this CIEDE2000 distance look alike. About 2 is just noticeable in touching patches; in figures,
#: classes may not touch, and blending at half over tissue halves their distance.
LOOKALIKE = 11.0

#: Kinds of hatching: none, then diagonals, each by the sign of x in ``y + sign * x``.
LINES = ((), (1,), (-1,), (1, -1))
PERIOD = 7  #: distance of the lines along a row, in px
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def lookalikes(label_set: LabelSet) -> list[tuple[str, str]]:
    """Return the pairs of codes whose colours are closer than `LOOKALIKE`, unlabelled colours included."""
    colours = _colours(label_set)
    codes = list(colours)
    return [(codes[i], codes[j]) for i, j in _close_pairs(tuple(colours.values()))]


def hatches(label_set: LabelSet) -> dict[str, int]:
    """Return the kind of hatching of each code: an index into `LINES`, 0 for plain.

    Codes are taken in order; each gets the first kind that none of its lookalikes before it has.
    """
    kinds: dict[str, int] = {}
    pairs = lookalikes(label_set)
    for code in _colours(label_set):
        taken = {kinds[first] for first, second in pairs if second == code}
        kinds[code] = min(set(range(len(LINES))) - taken, default=len(LINES) - 1)
    return kinds


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever is visible on a colour."""
    return BLACK if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else WHITE


def hatch(figure: np.ndarray, labels: np.ndarray, label_set: LabelSet, period: int = PERIOD) -> np.ndarray:
    """Draw the hatching of a label map, (H, W) uint8, over a figure of it, (H, W, 3) uint8.

    Lines are `period` px apart along a row. If no class is hatched, the figure itself is returned.
    """
    kinds = hatches(label_set)
    hatched = [c for c, code in enumerate(label_set.codes) if kinds[code] and (labels == c).any()]
    if hatched:
        figure = figure.copy()
    for c in hatched:
        code = label_set.codes[c]
        figure[(labels == c) & lines(*labels.shape, kinds[code], period)] = ink_on(label_set.colours[code])
    return figure


def lines(height: int, width: int, kind: int, period: int = PERIOD) -> np.ndarray:
    """Return the lines of a kind of hatching as a mask, bool of shape (height, width)."""
    y, x = np.ogrid[:height, :width]
    drawn = np.zeros((height, width), bool)
    for sign in LINES[kind]:
        drawn |= (y + sign * x) % period < max(1, period // 5)
    return drawn


def _colours(label_set: LabelSet) -> dict[str, Colour]:
    """Return the colours of classes and unlabelled colours; without those given as palette indices."""
    unlabelled = {code: colour for code, colour in label_set.unlabelled.items() if isinstance(colour, tuple)}
    return {**label_set.colours, **unlabelled}


@cache
def _close_pairs(colours: tuple[Colour, ...]) -> list[tuple[int, int]]:
    from skimage.color import deltaE_ciede2000, rgb2lab  # here, as most of this package needs no scikit-image

    lab = rgb2lab(np.array(colours, np.uint8)[np.newaxis])[0]
    close = deltaE_ciede2000(lab[:, np.newaxis], lab[np.newaxis]) < LOOKALIKE
    return np.argwhere(np.triu(close, 1)).tolist()
