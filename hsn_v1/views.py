"""Views: how often, and in which ways, a classifier looks at each place; what it sees is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


MARGIN = 32  #: px around an image that are mirrored where windows are localised: without context, maps lose 0.016 mIoU


SCALE_RANGE = 0.2, 8.0  #: in which tiles are seen at other scales


@dataclass(frozen=True)
class Views:
    """How often a classifier looks at each place: whatever it sees is averaged before anything else."""

    stride: int | None = None  #: from one tile to the next, in px at the classifier's scale; None: they hardly overlap
    flips: bool = False  #: see each tile in its 8 turns and mirror images
    scales: tuple[float, ...] = (1.0,)  #: factors by which each tile is enlarged or shrunk
    #: Side of windows, in px, each of which is localised like a tile, from one look at the tile around them (see
    #: `gradcam.window_cams`); None where whole tiles are.
    window: int | None = None

    @property
    def margin(self) -> int:
        """Width of what is mirrored around an image, in px at the classifier's scale."""
        return MARGIN if self.window else 0

    @property
    def count(self) -> int:
        """How often the classifier sees each tile."""
        return (8 if self.flips else 1) * len(self.scales)

    @property
    def notes(self) -> list[str]:
        """What it costs to see each tile more than once, to be said before the start."""
        cost = (8 if self.flips else 1) * sum(scale**2 for scale in self.scales)
        return [f"each tile is seen {self.count} times, as long as {cost:.0f} tiles take"] if self.count > 1 else []

    @property
    def once(self) -> bool:
        """Whether each tile is seen once, as it is."""
        return not self.flips and self.scales == (1.0,)

    def sides(self, tile: int, cell: int) -> list[int]:
        """Return the side of a tile at each scale, in px: a multiple of `cell`."""
        return [max(round(tile * scale / cell), 1) * cell for scale in self.scales]

    def turns(self) -> Iterator[tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]]:
        """Yield functions that turn or mirror arrays (T, h, w, ...), each with the one that undoes it."""
        for transposed, upside_down, mirrored in product((False, True), repeat=3) if self.flips else [(False,) * 3]:
            how = {"transposed": transposed, "upside_down": upside_down, "mirrored": mirrored}
            yield partial(_turn, **how), partial(_turn_back, **how)


ONCE = Views()  #: as published


def _turn(arrays: np.ndarray, transposed: bool, upside_down: bool, mirrored: bool) -> np.ndarray:
    arrays = arrays.swapaxes(1, 2) if transposed else arrays
    return arrays[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _turn_back(arrays: np.ndarray, transposed: bool, upside_down: bool, mirrored: bool) -> np.ndarray:
    arrays = arrays[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]
    return arrays.swapaxes(1, 2) if transposed else arrays
