"""Test-time views: the turns, scales and overlapping tiles in which a classifier sees each place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


MARGIN = 32  #: mirrored px around an image when windows are localised; without this context, maps lose 0.016 mIoU


SCALE_RANGE = 0.2, 8.0  #: limits of the factors in `Views.scales`, themselves excluded


@dataclass(frozen=True)
class Views:
    """Test-time views of each place: turns, scales and overlapping tiles, whose predictions are averaged."""

    #: Greatest step between tiles, in px at the classifier's scale; None: a tile's side, on slides 75 % of it.
    stride: int | None = None
    flips: bool = False  #: see each tile in its 8 turns and mirror images
    scales: tuple[float, ...] = (1.0,)  #: factors by which each tile is enlarged or shrunk
    #: Side of windows, in px. Each is localised like a tile, from one pass over the tile around it (see
    #: `gradcam.window_cams`). None: whole tiles are localised.
    window: int | None = None

    @property
    def margin(self) -> int:
        """Width of the mirrored border around an image, in px at the classifier's scale."""
        return MARGIN if self.window else 0

    @property
    def count(self) -> int:
        """Number of times that the classifier sees each tile."""
        return (8 if self.flips else 1) * len(self.scales)

    @property
    def notes(self) -> list[str]:
        """Note on the cost of seeing each tile several times, for display before the start; empty for one view."""
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
        """Yield functions that turn or mirror arrays (T, h, w, ...), each with its inverse."""
        for transposed, upside_down, mirrored in product((False, True), repeat=3) if self.flips else [(False,) * 3]:
            how = {"transposed": transposed, "upside_down": upside_down, "mirrored": mirrored}
            yield partial(_turn, **how), partial(_turn_back, **how)


ONCE = Views()  #: a single view of each tile, as published


def _turn(arrays: np.ndarray, transposed: bool, upside_down: bool, mirrored: bool) -> np.ndarray:
    arrays = arrays.swapaxes(1, 2) if transposed else arrays
    return arrays[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _turn_back(arrays: np.ndarray, transposed: bool, upside_down: bool, mirrored: bool) -> np.ndarray:
    arrays = arrays[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]
    return arrays.swapaxes(1, 2) if transposed else arrays
