"""Backend for plain images that Pillow reads (PNG, JPEG, BMP, WebP, JPEG 2000, odd TIFFs), decoded once, as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ..errors import InputError
from ..io.reading import IMAGE_FORMATS
from ..tiles import Window
from .base import Level, SlideFile, check_size, on_background, orientation_notes
from .scale import Mpp, mpp_of_density, stated

#: Pixel types that are converted to RGB, by Pillow's name, and the words for the user.
CONVERTED = {
    "1": "black and white",
    **dict.fromkeys(("L", "LA"), "greyscale"),
    **dict.fromkeys(("P", "PA"), "a palette image"),
}


def open_with_pillow(path: Path, page: int | None = None) -> SlideFile:
    """Open a plain image, or a page of a file of several; decode it when its pixels are first read.

    Raises InputError if its pixels are not 8-bit grey, palette or RGB, if there are several pages and none is chosen,
    or if it has more pixels than `check_size` allows.
    """
    with _opened(path, page) as image:
        height, width, mpp = image.height, image.width, _stated_mpp(image)
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # a PNG's own method would decode it
        if image.format == "TIFF" and orientation not in (None, 1):  # Pillow turns it, not always correctly
            raise InputError(f"{path}: {image.mode} pixels with an orientation tag; convert it to 8-bit RGB")
        notes = orientation_notes(orientation)
        if image.mode in CONVERTED:
            notes.append(f"{CONVERTED[image.mode]}, converted to RGB")
        if image.has_transparency_data:
            notes.append("transparent pixels are taken as white")
    check_size(path, height, width)

    @cache
    def decoded() -> Image.Image:
        with _opened(path, page) as image:
            image.load()
            return image

    def region(window: Window) -> np.ndarray:
        part = decoded().crop((window.left, window.top, window.right, window.bottom))
        if part.has_transparency_data:
            return on_background(np.asarray(part.convert("RGBA")))
        return np.array(part.convert("RGB"))

    return SlideFile((Level(height, width, region),), mpp, notes=tuple(notes))


@contextlib.contextmanager
def _opened(path: Path, page: int | None) -> Iterator[Image.Image]:
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        pages = getattr(image, "n_frames", 1)
        if page is not None:
            image.seek(page)
        elif pages > 1 and image.format != "MPO":  # an MPO's other pages are a camera's previews
            raise InputError(f"{path}: a stack of {pages} images; save the one to segment as a file of its own")
        if any(";16" in str(tile[3]) for tile in image.tile):  # Pillow would silently drop the lower 8 of 16 bits
            raise InputError(f"{path}: 16 bits per channel; convert it to 8-bit RGB")
        if image.mode not in ("RGB", "RGBA", *CONVERTED):
            raise InputError(f"{path}: pixels of type {image.mode}; convert it to 8-bit RGB")
        yield image


def _stated_mpp(image: Image.Image) -> tuple[Mpp, ...]:
    if image.format == "TIFF" and "resolution" in image.info:  # no unit by the standard: ImageJ names it elsewhere
        description = str(image.tag_v2.get(ExifTags.Base.ImageDescription, ""))
        unit = dict(line.partition("=")[::2] for line in description.splitlines()).get("unit", "")
        horizontal, vertical = image.info["resolution"]
    else:
        (horizontal, vertical), unit = image.info.get("dpi", (0, 0)), "inch"
    return stated((mpp_of_density(vertical, unit), mpp_of_density(horizontal, unit)))
