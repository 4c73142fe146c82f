"""Slides that OpenSlide reads: what most scanners write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ImageColor

from ..tiles import Window
from .base import Level, Source, on_background, overlapping, scale_of

#: Side of the blocks that a level is read in where OpenSlide interpolates, in px.
BLOCK = 256


def open_with_openslide(path: Path) -> Source:
    """Open a slide, in the frame that viewers show: only the part that was scanned, where the file says which.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Source

    Raises
    ------
    openslide.OpenSlideError
        If OpenSlide does not read the file.
    """
    import openslide

    handle = openslide.OpenSlide(path)
    known = handle.properties
    frame = _frame(known, *reversed(handle.dimensions))
    white = ImageColor.getrgb("#" + known.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF"))

    def level(number: int) -> Level:
        downsample = handle.level_downsamples[number]

        def block(window: Window) -> np.ndarray:
            corner = frame.left + round(window.left * downsample), frame.top + round(window.top * downsample)
            region = handle.read_region(corner, number, (window.width, window.height))
            return on_background(np.asarray(region), white)

        def blocks(window: Window) -> np.ndarray:
            region = np.empty((window.height, window.width, 3), np.uint8)
            for tile, inside, target in overlapping(window, BLOCK, BLOCK):
                region[target] = block(tile)[inside]
            return region

        width, height = handle.level_dimensions[number]
        if frame.height < handle.dimensions[1] or frame.width < handle.dimensions[0]:
            height, width = (max(1, round(side / downsample)) for side in (frame.height, frame.width))
        # OpenSlide takes a corner in whole px of full resolution. Where that is no whole px of the level, it
        # interpolates, another way for each corner: only blocks with the same corners always give the same pixels.
        return Level(height, width, block if downsample.is_integer() else blocks)

    scales = scale_of(known.get(openslide.PROPERTY_NAME_MPP_Y), known.get(openslide.PROPERTY_NAME_MPP_X))
    unit = {"inch": 25_400, "centimeter": 10_000}.get(known.get("tiff.ResolutionUnit"))
    if unit:
        scales += scale_of(known.get("tiff.YResolution"), known.get("tiff.XResolution"), lambda density: unit / density)
    return Source(
        tuple(map(level, range(handle.level_count))),
        tuple(scales),
        known.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        corner=(frame.top, frame.left),
        close=handle.close,
    )


def _frame(known: dict[str, str], height: int, width: int) -> Window:
    """Return the part of a slide that its file says was scanned, inside the slide, or all of it."""
    names = ("y", "x", "height", "width")
    try:
        bounds = Window(*(int(known[f"openslide.bounds-{name}"]) for name in names))
    except (KeyError, ValueError):
        return Window(0, 0, height, width)
    frame = bounds.overlap(Window(0, 0, height, width))
    return frame if frame.height and frame.width else Window(0, 0, height, width)
