"""Images from disk, as RGB arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .reading import IMAGE_FORMATS

#: Endings of the files that are looked for, by the mode of `find_images`, and what they are called.
SUFFIXES = {
    "patch": ((".png",), "PNG files"),
    "any": ((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), "PNG, JPEG, TIFF or BMP files"),
}


def read_image(path: Path) -> tuple[np.ndarray, str]:
    """Read an 8-bit image as RGB.

    Parameters
    ----------
    path : Path

    Returns
    -------
    image : ndarray of shape (H, W, 3), uint8
    note : str
        What had to be converted; empty if nothing.

    Raises
    ------
    InputError
        If the file is no image, is cut off, or has more than 8 bits per channel.
    """
    with opened(path) as image:
        if image.mode not in ("RGB", *_CONVERTED):
            raise InputError(f"{path}: pixels of type {image.mode}; convert it to 8-bit RGB")
        note = "" if image.mode == "RGB" else f"{path}: {_CONVERTED[image.mode]}, converted to RGB"
        return np.array(image.convert("RGB")), note


_CONVERTED = {"RGBA": "alpha channel ignored", "P": "palette image", "L": "greyscale", "LA": "greyscale with alpha"}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an 8-bit image with all its pixels, or raise InputError if it is none."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if any(";16" in str(tile[3]) for tile in image.tile):  # Pillow would drop the lower 8 of 16 bits unasked
                raise InputError(f"{path}: 16 bits per channel; convert it to 8-bit RGB")
            image.load()
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not an image, or cut off ({error}); get the file again or remove it") from error


def find_images(folder: Path, mode: str) -> tuple[Path, ...]:
    """Return the images of a folder, sorted by name.

    Parameters
    ----------
    folder : Path
    mode : {"patch", "wsi", "any"}
        ``patch``: all PNG files; ``wsi``: the tiles of a slide, whose names end in ``_f1`` before the extension;
        ``any``: PNG, JPEG, TIFF and BMP files.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the images")
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if mode == "wsi":
        images, expected = [path for path in files if path.stem.endswith("_f1")], "files named *_f1.png"
    else:
        suffixes, expected = SUFFIXES[mode]
        images = [path for path in files if path.suffix.lower() in suffixes]
    if not images:
        raise InputError(f"{folder}: no images; expected {expected}")
    return tuple(sorted(images, key=lambda path: path.name))
