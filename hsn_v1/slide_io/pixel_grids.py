"""Pixels of one grid in another that covers the same field, in whole numbers: a rounded fraction may lie outside."""

from __future__ import annotations

import numpy as np

from ..tiles import Window


def touched(window: Window, frame: Window, height: int, width: int) -> Window:
    """Return the pixels of a coarser or finer grid that a window touches.

    Parameters
    ----------
    window : Window
        Inside the frame.
    frame : Window
        What both grids cover, with its corner at 0, in the window's pixels.
    height, width : int
        Size of the other grid, in its own px.

    Returns
    -------
    Window
        In px of the other grid, inside it.
    """
    top, left = window.top * height // frame.height, window.left * width // frame.width
    bottom, right = -(-window.bottom * height // frame.height), -(-window.right * width // frame.width)
    return Window(top, left, bottom - top, right - left)


def nearest(picture: np.ndarray, window: Window, frame: Window) -> np.ndarray:
    """Show a window of a picture in another grid: each pixel is the one under its centre.

    Parameters
    ----------
    picture : ndarray of shape (h, w, ...)
        The whole frame, in a coarser or finer grid.
    window : Window
        Outside the frame, the picture's edge goes on.
    frame : Window
        What the picture covers, with its corner at 0, in the window's pixels.

    Returns
    -------
    ndarray of shape (window.height, window.width, ...)
    """
    rows = _under(window.top, window.height, frame.height, picture.shape[0])
    columns = _under(window.left, window.width, frame.width, picture.shape[1])
    return picture[np.ix_(rows, columns)]


def _under(start: int, length: int, side: int, other: int) -> np.ndarray:
    """Where the centres of pixels lie in a grid of `other` px, of an axis that has `side` px."""
    return np.clip((2 * np.arange(start, start + length) + 1) * other // (2 * side), 0, other - 1)
