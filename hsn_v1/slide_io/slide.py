"""Read RGB windows of slides and other images at any scale, from the pyramid level that fits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..labels import PLAUSIBLE_MPP
from ..tiles import Window
from .base import Level
from .formats import opened_in_sandbox
from .scale import HOW_TO_FIND_MPP, choose_mpp, is_plausible

PIECE_PIXELS = 1 << 24  #: most pixels of a level that are resampled at once
TOLERANCE = 1.01  #: factor by which a level may be coarser than the scale asked for


@dataclass(frozen=True)
class Slide:
    """An opened slide or image; a context manager. Each process opens its own."""

    path: Path
    mpp: float  #: microns per pixel at full resolution
    notes: tuple[str, ...]  #: for the user
    levels: tuple[Level, ...]  #: full resolution first
    close: Callable[[], None] = lambda: None
    corner: tuple[int, int] = (0, 0)  #: its first row and column in the file's full resolution, as viewers show it

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def height(self) -> int:
        """Rows at full resolution."""
        return self.levels[0].height

    @property
    def width(self) -> int:
        """Columns at full resolution."""
        return self.levels[0].width

    def frame(self, mpp: float) -> Window:
        """Return the whole slide at another scale."""
        return Window(0, 0, *self.size(mpp))

    def size(self, mpp: float) -> tuple[int, int]:
        """Return rows and columns of the whole slide at another scale, at least 1."""
        return tuple(max(1, round(side * self.mpp / mpp)) for side in (self.height, self.width))

    def pixels(self) -> np.ndarray:
        """Read the whole slide at full resolution, (height, width, 3) uint8; InputError if the file is damaged."""
        return self.levels[0].region(Window(0, 0, self.height, self.width))

    def read(self, window: Window, mpp: float) -> np.ndarray:
        """Read a window of the slide, scaled to `mpp`.

        A pixel is the same in every window, up to rounding by 1. The whole slide is stretched to whole pixels
        (`size`). Downsampling averages under a triangle: it does not alias, and unlike bicubic or Lanczos filters
        it does not ring, which would draw halos around nuclei.

        Parameters
        ----------
        window : Window
            In px at `mpp`. Outside, the slide is mirrored, as by ``cv2.BORDER_REFLECT``.
        mpp : float
            Scale of the result; it may be finer than the slide's.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            RGB; transparent areas show the slide's background colour, or white.

        Raises
        ------
        InputError
            If this part of the file is damaged.
        """
        rows, columns = self.size(mpp)
        row, column = _mirrored(window.top, window.height, rows), _mirrored(window.left, window.width, columns)
        inside = Window(*map(int, (row.min(), column.min(), np.ptp(row) + 1, np.ptp(column) + 1)))
        region = _resample(self._level(mpp), rows, columns, inside)
        return region[np.ix_(row - inside.top, column - inside.left)]

    def _level(self, mpp: float) -> Level:
        """Return the coarsest level that is at least as fine as `mpp`, or the finest."""

        def reduction(level: Level) -> float:
            return max(self.height / level.height, self.width / level.width)

        fine = [level for level in self.levels if reduction(level) <= TOLERANCE * mpp / self.mpp]
        return max(fine, key=reduction, default=self.levels[0])


def open_slide(path: Path | str, mpp: float | None = None, override: bool = False) -> Slide:
    """Open a slide or an image.

    Parameters
    ----------
    path : Path or str
        Slide of a format that OpenSlide reads, TIFF or OME-TIFF with 8-bit RGB, or an image file.
    mpp : float, optional
        Microns per pixel at full resolution, for a file that does not state a plausible scale.
    override : bool
        Whether `mpp` counts even if the file states a plausible scale.

    Raises
    ------
    InputError
        If the file cannot be read, or there is no plausible scale.
    """
    path = Path(path)
    if mpp is not None and not is_plausible(mpp):
        raise InputError(f"mpp {mpp:g}: expected {PLAUSIBLE_MPP[0]:g} to {PLAUSIBLE_MPP[1]:g}; {HOW_TO_FIND_MPP}")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(opened_in_sandbox(path))
        try:
            mpp, notes = choose_mpp(file.mpp, file.objective, mpp, override)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        notes = tuple(f"{path}: {note}" for note in (*file.notes, *notes))
        return Slide(path, mpp, notes, file.levels, stack.pop_all().close, file.corner)


def _mirrored(start: int, length: int, side: int) -> np.ndarray:
    """Return the source positions of pixels from `start` on, along an axis of `side` px mirrored at its ends."""
    position = np.arange(start, start + length) % (2 * side)
    return np.minimum(position, 2 * side - 1 - position)


def _resample(level: Level, rows: int, columns: int, window: Window) -> np.ndarray:  # (height, width, 3)
    """Read a window of a level that is resampled to `rows` by `columns` px."""
    zoom_y, zoom_x = level.height / rows, level.width / columns
    height, width = window.height, window.width
    if height * zoom_y * width * zoom_x > PIECE_PIXELS and max(height, width) > 1:
        halves = [_resample(level, rows, columns, half) for half in window.halves()]
        return np.concatenate(halves, int(width > height))
    y, above, below = _support(window.top, height, zoom_y, level.height)
    x, before, behind = _support(window.left, width, zoom_x, level.width)
    region = level.region(Window(above, before, below - above, behind - before))
    box = x - before, y - above, x - before + width * zoom_x, y - above + height * zoom_y
    box = [min(edge, side) for edge, side in zip(box, region.shape[1::-1] * 2, strict=True)]
    resampled = np.empty((height, width, 3), np.uint8)
    for channel in range(3):  # in floating point: 8-bit images are rounded once along each axis
        grey = Image.fromarray(region[..., channel].astype(np.float32))
        resampled[..., channel] = np.rint(grey.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return resampled


def _support(start: int, length: int, zoom: float, side: int) -> tuple[float, int, int]:
    """Return a window's start along an axis of a level, and the first pixel and the end of the filter's reach."""
    margin = math.ceil(max(zoom, 1)) + 1
    first, last = math.floor(start * zoom) - margin, math.ceil((start + length) * zoom) + margin
    return start * zoom, max(first, 0), min(last, side)
