"""Pixels of one grid in another that covers the same field, in whole numbers: a rounded fraction may lie outside."""

from __future__ import annotations

import numpy as np

from ..tiles import Window


def touched(window: Window, frame: Window, height: int, width: int) -> Window:
    """Return the pixels that a window of a frame touches in another grid, of `height` by `width` px for the frame."""
    top, left = window.top * height // frame.height, window.left * width // frame.width
    bottom, right = -(-window.bottom * height // frame.height), -(-window.right * width // frame.width)
    return Window(top, left, bottom - top, right - left)


def nearest(picture: np.ndarray, window: Window, frame: Window) -> np.ndarray:
    """Show a window of a frame by the nearest pixels of a picture of it, (h, w, ...), whose edge goes on beyond it."""
    rows = _under(window.top, window.height, frame.height, picture.shape[0])
    columns = _under(window.left, window.width, frame.width, picture.shape[1])
    return picture[np.ix_(rows, columns)]


def _under(start: int, length: int, side: int, other: int) -> np.ndarray:
    """Return where the centres of pixels lie in a grid of `other` px, of an axis that has `side` px."""
    return np.clip((2 * np.arange(start, start + length) + 1) * other // (2 * side), 0, other - 1)
