"""Backend for slides that OpenSlide reads, which are most scanners' files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageColor

from ..tiles import Window
from .base import Level, SlideFile, on_background, overlapping
from .scale import mpp_of_density, mpp_of_size, stated

if TYPE_CHECKING:
    from openslide import OpenSlide

BLOCK = 256  #: side in px of the blocks in which a level is read if OpenSlide interpolates


def open_with_openslide(path: Path) -> SlideFile:
    """Open a slide in the frame that viewers show: only the scanned part, if the file states it."""
    import openslide

    slide = openslide.OpenSlide(path)
    stated_by = slide.properties.get
    frame = _scanned(slide.properties, Window(0, 0, *slide.dimensions[::-1]))
    unit = stated_by("tiff.ResolutionUnit")
    return SlideFile(
        levels=tuple(_level(slide, number, frame) for number in range(slide.level_count)),
        mpp=stated(
            (mpp_of_size(stated_by("openslide.mpp-y")), mpp_of_size(stated_by("openslide.mpp-x"))),
            (mpp_of_density(stated_by("tiff.YResolution"), unit), mpp_of_density(stated_by("tiff.XResolution"), unit)),
        ),
        objective=stated_by("openslide.objective-power"),
        corner=(frame.top, frame.left),
        close=slide.close,
    )


def _scanned(properties: Mapping[str, str], whole: Window) -> Window:
    """Return the scanned part of a slide that its file states, inside the slide; the whole slide if it states none."""
    names = ("y", "x", "height", "width")
    try:
        frame = Window(*(int(properties[f"openslide.bounds-{name}"]) for name in names)).overlap(whole)
    except (KeyError, ValueError):
        return whole
    return frame if frame.height and frame.width else whole


def _level(slide: OpenSlide, number: int, frame: Window) -> Level:
    downsample, (width, height) = slide.level_downsamples[number], slide.level_dimensions[number]
    white = ImageColor.getrgb("#" + slide.properties.get("openslide.background-color", "FFFFFF"))
    if (frame.width, frame.height) != slide.dimensions:
        height, width = (max(1, round(side / downsample)) for side in (frame.height, frame.width))

    def block(window: Window) -> np.ndarray:
        corner = frame.left + round(window.left * downsample), frame.top + round(window.top * downsample)
        return on_background(np.asarray(slide.read_region(corner, number, (window.width, window.height))), white)

    def blocks(window: Window) -> np.ndarray:
        region = np.empty((window.height, window.width, 3), np.uint8)
        for tile, inside, target in overlapping(window, BLOCK, BLOCK):
            region[target] = block(tile)[inside]
        return region

    # OpenSlide takes corners in whole px of full resolution. Between px of the level it interpolates, differently
    # for each corner. Only blocks with fixed corners always give the same pixels.
    return Level(height, width, block if downsample.is_integer() else blocks)
