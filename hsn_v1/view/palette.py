"""Colours for readers with red-green colour blindness, in place of the published ones."""

from __future__ import annotations

from functools import lru_cache
from itertools import product, zip_longest

import numpy as np

from ..labels import Colour, LabelSet

#: The seven colours of Okabe and Ito (2008) that are not black: distinct for all readers.
OKABE_ITO = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))

PALE = (250, 250, 250), (180, 180, 180)  #: background, and other tissue

#: How linear RGB looks without red and without green cones: Machado et al. (2009), severity 1.
BLIND = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)

XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def safe_colours(label_set: LabelSet) -> dict[str, Colour]:
    """Return a colour for each class; background and other tissue are pale.

    The most distinct colours go to classes of different kinds: the first of each kind before the second of any. Of a
    kind are codes with the same letters before their first dot.
    """
    pale = {label_set.background: PALE[0], label_set.other: PALE[1]}
    kinds: dict[str, list[str]] = {}
    for code in label_set.codes:
        if code not in pale:
            kinds.setdefault(code.partition(".")[0], []).append(code)
    codes = [code for nth in zip_longest(*kinds.values()) for code in nth if code is not None]
    colours = {**pale, **dict(zip(codes, distinct(len(codes)), strict=True))}
    return {code: colours[code] for code in label_set.codes}


@lru_cache(maxsize=16)
def distinct(count: int) -> tuple[Colour, ...]:
    """Return colours, each as far as possible from those before it for the reader who sees the least difference.

    The first are Okabe and Ito's. Of many classes, later ones are close to one another for any reader.
    """
    grid = np.array(list(product(range(0, 256, 51), repeat=3)))
    chosen = np.array([*PALE, *OKABE_ITO])
    distance = np.min([differences(grid, colour) for colour in chosen], axis=0)
    while len(chosen) < count + len(PALE):
        best = int(distance.argmax())
        chosen = np.vstack([chosen, grid[best]])
        distance = np.minimum(distance, differences(grid, grid[best]))
    return tuple(tuple(colour) for colour in chosen[len(PALE) : len(PALE) + count].tolist())


def differences(colours: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return how far colours (N, 3) are from another one in CIELAB, for the reader who sees the least difference."""
    return np.linalg.norm(_seen(colours) - _seen(np.asarray(colour)[None]), axis=-1).min(axis=0)


def _seen(colours: np.ndarray) -> np.ndarray:  # (readers, N, 3) in CIELAB
    from skimage.color import xyz2lab  # quick, but most of this package goes without

    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    readers = np.stack([linear, *(np.clip(linear @ blind.T, 0, 1) for blind in BLIND)])
    return xyz2lab(readers @ XYZ.T)
