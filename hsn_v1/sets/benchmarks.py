"""Data sets with patch labels, as they are released: classes, parts, labels in file names, and masks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.images import find_images, read_image
from ..io.masks import find_mask, read_mask, read_objects, write_mask
from ..io.writing import write_bytes, write_picture
from ..labels import Colour, LabelSet


@dataclass(frozen=True)
class Benchmark:
    """A data set with patch labels."""

    #: Colours in the masks' palettes by class, in the order of the labels in file names and of the indices in masks.
    classes: dict[str, Colour]
    mpp: float  #: scale of the images, in microns per pixel
    labels: str = ""  #: pattern of the labels in file names; empty if patches are cut from images with masks
    background: str = "grey"  #: how `train` finds the pixels that masks exclude by the index after the classes


#: Sources: docs/benchmarks.md. 10x is taken as 1 mpp.
BENCHMARKS = {
    "luad": Benchmark(
        {"TE": (205, 51, 51), "NEC": (0, 255, 0), "LYM": (65, 105, 225), "TAS": (255, 165, 0)},
        mpp=1.0,
        labels=r"\[[01]( [01]){3}\]",
    ),
    "bcss": Benchmark(
        {"TUM": (255, 0, 0), "STR": (0, 255, 0), "LYM": (0, 0, 255), "NEC": (153, 0, 255)},
        mpp=0.25,
        labels=r"\[[01]{4}\]",
    ),
    "wsss4luad": Benchmark(
        {"tumour": (0, 64, 128), "stroma": (64, 128, 0), "normal": (243, 152, 0)},
        mpp=1.0,
        labels=r"\[[01](, ?[01]){2}\]",
    ),
    "glas": Benchmark({"other": (3, 155, 229), "gland": (0, 0, 128)}, mpp=0.62, background="none"),
}

#: Names of the parts' folders, and of their folders of images and masks.
PARTS = {
    "train": ("train", "training", "1.training"),
    "validation": ("val", "valid", "validation", "2.validation"),
    "test": ("test", "testing", "3.testing"),
}
IMAGES, MASKS = ("img", "image", "images"), ("mask", "masks", "gt")

#: GlaS' images in one folder: their names begin with the part that each belongs to.
IN_ONE_FOLDER_SET = "glas"
IN_ONE_FOLDER = re.compile(r"(train|test)[AB]?_\d+")


@dataclass(frozen=True)
class Part:
    """Folders of a part's images and, if any, of their masks."""

    images: Path
    truth: Path | None


def find_parts(folder: Path) -> dict[str, Part]:
    """Return the parts of a released data set, by the keys of `PARTS`. Raises InputError if there are none."""
    parts = {}
    for part, names in PARTS.items():
        part_folder = _first(folder, names)
        if part_folder:
            parts[part] = Part(_first(part_folder, IMAGES) or part_folder, _first(part_folder, MASKS))
    if not parts:
        raise InputError(f"{folder}: no data set; expected folders {', '.join(names[0] for names in PARTS.values())}")
    return parts


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def detect(parts: dict[str, Part]) -> str:
    """Return the benchmark's name, by the labels in the training patches' names. Raises InputError if none fits."""
    first = find_images(parts["train"].images, "any")[0].name if "train" in parts else ""
    for name, benchmark in BENCHMARKS.items():
        if benchmark.labels and re.search(benchmark.labels + r"\.\w+$", first):
            return name
    raise InputError(
        f"{first or 'no training part'}: not known by its labels; give `set` {'|'.join(BENCHMARKS)}, or `classes` and "
        "`mpp`"
    )


def has_labels(part: Part) -> bool:
    """Tell whether the names of a part's images have labels."""
    return bool(re.search(r"\[[01][01, ]*\]\.\w+$", find_images(part.images, "any")[0].name))


def tuning_pairs(part: Part, count: int) -> list[tuple[Path, Path]]:
    """Return at most `count` images of a part with their masks, spread evenly over the names."""
    images = find_images(part.images, "any")
    chosen = images[:: -(-len(images) // count)]
    return [(path, find_mask(part.truth, path.name)) for path in chosen]


def sorted_into_parts(folder: Path, benchmark: Benchmark, out: Path) -> Iterator[Path]:
    """Sort images of one folder, as GlaS is published, into parts with palette masks; skip existing files.

    Masks are ``train_1_anno.bmp``, one label per gland, next to ``train_1.bmp``. Or they are in colours, in the folder
    ``gt`` next to the images' ``img``, or in the places of the authors' download of HistoSegNet. The benchmark's first
    class is outside of objects, its second class is objects. `out` gets the folders ``train`` and ``test``, each with
    ``img`` and ``mask``.

    Yields each image when it is done. Raises InputError if a mask is missing, or a file cannot be read.
    """
    label_set = LabelSet("tissue", benchmark.classes, {code: i for i, code in enumerate(benchmark.classes)})
    for path in images_in_one_folder(folder):
        part = out / IN_ONE_FOLDER.fullmatch(path.stem)[1]
        image, mask = part / "img" / f"{path.stem}.png", part / "mask" / f"{path.stem}.png"
        if not mask.exists():
            pixels, _ = read_image(path)
            size = pixels.shape[:2]
            objects = path.with_name(f"{path.stem}_anno{path.suffix}")
            if objects.exists():
                labels = (read_objects(objects, *size) > 0).astype(np.uint8)
            else:
                labels = read_mask(find_mask(_truth_of(path.parent), path.name), label_set, size, "silently").labels
            write_picture(image, pixels)
            write_mask(mask, labels, label_set)
        yield path


def images_in_one_folder(folder: Path) -> list[Path]:
    """Return the images of GlaS in a folder, as it is published; an empty list for other folders."""
    for place in (folder / "img" / "02_glas_full", folder / "img", folder):
        if images := sorted(path for path in place.glob("*") if IN_ONE_FOLDER.fullmatch(path.stem)):
            return images
    return []


def _truth_of(images: Path) -> Path:
    """Return the folder of ground truth that belongs to a folder of images."""
    beside = images.parent / "gt"
    return _first(images.parent.parent, (f"gt/{images.name}/glas",)) or _first(images.parent, ("gt/glas",)) or beside


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file in a second place, as a hard link if the disk allows it, or else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_bytes(target, source.read_bytes())
