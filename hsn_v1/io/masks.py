"""Masks on disk: class indices out of colours, palettes or grey values, and bitmaps of objects."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import InputError
from ..labels import Colour, LabelSet
from .images import opened
from .writing import write_bytes

#: Formats that keep each pixel as it is.
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class Truth:
    """Ground truth of an image, or any other mask of it.

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


def read_truth(path: Path, label_set: LabelSet, height: int, width: int, resize: bool = True) -> Truth:
    """Read a mask of an image.

    Parameters
    ----------
    path : Path
        RGB in the label set's colours, with or without an alpha channel, which is ignored; or class indices as grey
        values or in a palette file. A palette whose colours are all the label set's is read by them.
    label_set : LabelSet
    height, width : int
        Size of the image, in px.
    resize : bool
        Whether a mask of another size is resized, to the nearest pixels, as published; else it is an error.

    Raises
    ------
    InputError
        If there is no such file, it is no image or cut off, it has another size, or an index is beyond the classes.
    """
    labels = read_labels(path, label_set)
    if not resize and labels.shape != (height, width):
        raise InputError(
            f"{path}: {labels.shape[1]} x {labels.shape[0]} px, expected {width} x {height} as its image has; "
            "masks must fit their images pixel by pixel"
        )
    unlabelled, strange = len(label_set), len(label_set) + 1
    counts = np.bincount(labels.ravel(), minlength=strange + 1)
    resized = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return Truth(np.minimum(resized, unlabelled), counts[:unlabelled], int(counts[strange]))


def read_labels(path: Path, label_set: LabelSet) -> np.ndarray:
    """Read a mask at its own size; parameters and errors are those of `read_truth`.

    Returns
    -------
    ndarray of shape (H, W), uint8
        Class indices; C where the pixel is unlabelled, C + 1 where its colour is of no class.
    """
    if not path.exists():
        raise InputError(f"{path}: no such ground truth; add it, remove the image, or run with gt_mode off")
    with opened(path) as image:
        if _is_indexed(image, label_set):
            return _by_index(np.asarray(image, np.uint8), label_set, path)
        packed = np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF  # a pixel's 4 bytes as one number
    unlabelled = tuple(value for value in label_set.unlabelled.values() if isinstance(value, tuple))
    return _table(tuple(label_set.colours.values()), unlabelled).take(packed)


def _is_indexed(image: Image.Image, label_set: LabelSet) -> bool:
    """Tell whether a mask's values are class indices: of a palette that is not the label set's, or greys that fit."""
    colours = {*label_set.colours.values(), *label_set.unlabelled.values()}
    if image.mode == "P":
        return not _palette(image) <= colours
    if image.mode not in ("1", "L"):
        return False
    greys = {(grey,) * 3 for grey in np.unique(image.convert("L")).tolist()}
    return not greys <= colours or not _strange_indices(np.asarray(image, np.uint8), label_set)


def _palette(image: Image.Image) -> set[Colour]:
    """Return a palette's colours, but not the black that fills it up."""
    values = image.getpalette("RGB")
    colours = list(zip(values[::3], values[1::3], values[2::3], strict=True))
    used = {colours[index] for index in np.unique(image).tolist() if index < len(colours)}
    return used | {colour for colour in colours if any(colour)}


def _strange_indices(indices: np.ndarray, label_set: LabelSet) -> list[int]:
    """Return the indices that are neither a class nor unlabelled."""
    return sorted({*np.unique(indices).tolist()} - {*range(len(label_set)), *label_set.unlabelled.values()})


def _by_index(indices: np.ndarray, label_set: LabelSet, path: Path) -> np.ndarray:
    """Return the class of each index, C where it is unlabelled, or raise InputError at one that is neither."""
    if strange := _strange_indices(indices, label_set):
        raise InputError(
            f"{path}: index {strange[0]}, expected 0 to {len(label_set) - 1}, the classes of {label_set.name}; what is "
            f"of no class goes into the file of classes: [label_sets.{label_set.name}.unlabelled] none = {strange[0]}"
        )
    return np.minimum(indices, len(label_set))  # an index that is unlabelled is none of the classes'


def write_labels(path: Path, labels: np.ndarray, label_set: LabelSet) -> None:
    """Write class indices, uint8 of shape (H, W), as a palette PNG in the label set's colours."""
    image, content = Image.fromarray(labels), io.BytesIO()
    image.putpalette(list(chain.from_iterable(label_set.colours.values())))
    image.save(content, format="PNG")
    write_bytes(path, content.getvalue())


def find_mask(folder: Path, image: str) -> Path:
    """Return where a folder has an image's mask, or should have it: by the image's name, with any ending of a mask."""
    stems = (image, Path(image).stem)
    files = [folder / image, *(folder / f"{stem}{suffix}" for stem in stems for suffix in MASK_SUFFIXES)]
    return next((file for file in files if file.exists()), files[0])


@lru_cache(maxsize=2)  # a run has one or two label sets; 16 MiB each
def _table(colours: tuple[Colour, ...], unlabelled: tuple[Colour, ...]) -> np.ndarray:
    """Return the class of each of all colours; the last two numbers are unlabelled, and strange."""
    table = np.full(1 << 24, len(colours) + 1, np.uint8)
    table[[_pack(colour) for colour in colours]] = range(len(colours))
    table[[_pack(colour) for colour in unlabelled]] = len(colours)
    return table


def _pack(colour: Colour) -> int:
    red, green, blue = colour
    return red | green << 8 | blue << 16


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
    with opened(path) as image:
        values = np.atleast_3d(np.asarray(image))[..., :3]
    if (values != values[..., :1]).any():
        raise InputError(f"{path}: its channels differ; expected one label per object, the same in each channel")
    return cv2.resize(values[..., 0].astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
