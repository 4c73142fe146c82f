"""Images and ground truth from disk: RGB arrays and class indices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import InputError
from ..labels import LabelSet


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
    with _opened(path) as image:
        if image.mode not in ("RGB", *_CONVERTED):
            raise InputError(f"{path}: pixels of type {image.mode}; convert it to 8-bit RGB")
        note = "" if image.mode == "RGB" else f"{path}: {_CONVERTED[image.mode]}, converted to RGB"
        return np.array(image.convert("RGB")), note


_CONVERTED = {"RGBA": "alpha channel ignored", "P": "palette image", "L": "greyscale", "LA": "greyscale with alpha"}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
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


@dataclass(frozen=True)
class Truth:
    """Ground truth of an image.

    Attributes
    ----------
    labels : ndarray of shape (H, W), uint8
        Class indices at the image's size; the number C of classes where the pixel is unlabelled.
    pixels : ndarray of shape (C,), int64
        Pixels of each class in the file, at its own size.
    strange : int
        Pixels of the file whose colour belongs to no class at all; unlabelled, too.
    """

    labels: np.ndarray
    pixels: np.ndarray
    strange: int


def read_truth(path: Path, label_set: LabelSet, height: int, width: int) -> Truth:
    """Read ground truth that is stored in a label set's colours, of any size, and ignore its alpha channel.

    Raises
    ------
    InputError
        If there is no such file, or if it is no image or cut off.
    """
    if not path.exists():
        raise InputError(f"{path}: no such ground truth; add it, remove the image, or run with gt_mode off")
    with _opened(path) as image:
        packed = np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF  # a pixel's 4 bytes as one number
    unlabelled, strange = len(label_set), len(label_set) + 1
    labels = _table(
        tuple(label_set.colours.values()), tuple(c for c in label_set.unlabelled.values() if isinstance(c, tuple))
    ).take(packed)
    counts = np.bincount(labels.ravel(), minlength=strange + 1)
    resized = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return Truth(np.minimum(resized, unlabelled), counts[:unlabelled], int(counts[strange]))


@lru_cache(maxsize=2)  # a run has one or two label sets; 16 MiB each
def _table(colours: tuple[tuple[int, int, int], ...], unlabelled: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Return the class of each of all colours; the last two numbers are unlabelled, and strange."""
    table = np.full(1 << 24, len(colours) + 1, np.uint8)
    table[[_pack(colour) for colour in colours]] = range(len(colours))
    table[[_pack(colour) for colour in unlabelled]] = len(colours)
    return table


def read_objects(path: Path, height: int, width: int) -> np.ndarray:
    """Read a bitmap with one label per object: grey, or the same value in all three channels; of any size.

    Returns
    -------
    ndarray of shape (height, width), int32
        0 outside all objects.

    Raises
    ------
    InputError
        If it is no image, cut off, or its channels differ.
    """
    with _opened(path) as image:
        values = np.atleast_3d(np.asarray(image))[..., :3]
    if (values != values[..., :1]).any():
        raise InputError(f"{path}: its channels differ; expected one label per object, the same in each channel")
    return cv2.resize(values[..., 0].astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)


def _pack(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return red | green << 8 | blue << 16


def find_images(folder: Path, mode: str) -> tuple[Path, ...]:
    """Return the images of a folder, sorted by name.

    Parameters
    ----------
    folder : Path
    mode : {"patch", "wsi"}
        ``patch``: all PNG files; ``wsi``: the tiles of a slide, whose names end in ``_f1`` before the extension.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the images")
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if mode == "patch":
        images, expected = [path for path in files if path.suffix.lower() == ".png"], "PNG files"
    else:
        images, expected = [path for path in files if path.stem.endswith("_f1")], "files named *_f1.png"
    if not images:
        raise InputError(f"{folder}: no images; expected {expected}")
    return tuple(sorted(images, key=lambda path: path.name))
