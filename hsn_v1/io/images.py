"""Read images as RGB arrays, or as data URIs for web pages of a single file."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import InputError
from .reading import IMAGE_FORMATS, no_folder, open_regular, read_bytes

#: File endings by the mode of `find_images`, and the words for them in errors.
SUFFIXES = {
    "patch": ((".png",), "PNG files"),
    "any": ((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), "PNG, JPEG, TIFF or BMP files"),
}

_CONVERTED = {"RGBA": "alpha channel ignored", "P": "palette image", "L": "greyscale", "LA": "greyscale with alpha"}

SIDE = 400  #: longest side of an image in a page, in px


def read_image(path: Path) -> tuple[np.ndarray, str]:
    """Read an 8-bit image as RGB, (H, W, 3) uint8; return it with a note on a conversion, or "".

    Raises InputError if the file is not an image, is cut off, or has more than 8 bits per channel.
    """
    with opened(path) as image:
        if image.mode not in ("RGB", *_CONVERTED):
            raise InputError(f"{path}: pixels of type {image.mode}; convert it to 8-bit RGB")
        note = "" if image.mode == "RGB" else f"{path}: {_CONVERTED[image.mode]}, converted to RGB"
        return np.array(image.convert("RGB")), note


def imread(path: Path | str) -> np.ndarray:
    """Read an 8-bit image as RGB, (H, W, 3) uint8; grey and palette images are converted, an alpha channel is ignored.

    Raises InputError as `read_image` does.
    """
    return read_image(Path(path))[0]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an 8-bit image and load its pixels; raise InputError if that fails."""
    try:
        open_regular(path).close()  # else Pillow would wait at a pipe
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if any(";16" in str(tile[3]) for tile in image.tile):  # Pillow would silently drop the lower 8 of 16 bits
                raise InputError(f"{path}: 16 bits per channel; convert it to 8-bit RGB")
            image.load()
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, expected an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not an image, or cut off ({error}); get the file again or remove it") from error


def find_images(folder: Path | str, mode: str = "any") -> tuple[Path, ...]:
    """Return the images of a folder, sorted by name.

    Parameters
    ----------
    folder : Path or str
    mode : {"patch", "wsi", "any"}
        ``patch``: all PNG files; ``wsi``: the tiles of a slide, whose names end in ``_f1`` before the extension;
        ``any``: PNG, JPEG, TIFF and BMP files.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.

    Examples
    --------
    >>> images = find_images("img/01_phantom_patch")
    >>> images[0].name, imread(images[0]).shape
    ('phantom_000000.png', (224, 224, 3))
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # also False for a name that no folder can have
        raise InputError(f"{folder}: {no_folder(folder)}; it should hold the images")
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if mode == "wsi":
        images, expected = [path for path in files if path.stem.endswith("_f1")], "files named *_f1.png"
    else:
        suffixes, expected = SUFFIXES[mode]
        images = [path for path in files if path.suffix.lower() in suffixes]
    if not images:
        raise InputError(f"{folder}: no images; expected {expected}")
    return tuple(sorted(images, key=lambda path: path.name))


def embedded(path: Path) -> str:
    """Return a PNG or JPEG file as a data URI."""
    return _address(read_bytes(path), "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png")


def embedded_thumbnail(path: Path, is_mask: bool, side: int = SIDE) -> str:
    """Return an image or a mask as a data URI, reduced to a longest side of `side` px.

    An image is averaged, and compressed as JPEG. A mask is sampled at nearest pixels, so that its colours stay exact.
    """
    image, _ = read_image(path)
    scale = min(1, side / max(image.shape[:2]))
    if scale < 1:
        how = cv2.INTER_NEAREST if is_mask else cv2.INTER_AREA
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
    kind, options = ("png", [cv2.IMWRITE_PNG_COMPRESSION, 9]) if is_mask else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 80])
    _, content = cv2.imencode(f".{kind}", image[..., ::-1], options)
    return _address(content.tobytes(), kind)


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
