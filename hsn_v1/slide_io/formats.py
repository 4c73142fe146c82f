"""Open slides and images of any format in a sandbox, with the library that reads each best."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..io.reading import line_of
from ..io.sandbox import sandbox_for
from ..tiles import Window
from .base import Level, SlideFile, decoding
from .openslide_backend import open_with_openslide
from .pillow_backend import open_with_pillow
from .tifffile_backend import is_tiff, open_with_tifffile, suits_openslide

#: Endings of slide formats. A file with such a name that holds no slide is damaged, not a plain image.
SLIDE_ENDINGS = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi", ".avs"),
    *(".qptiff", ".btf"),
)


@contextlib.contextmanager
def opened_in_sandbox(path: Path) -> Iterator[SlideFile]:
    """Open a slide or image in a sandbox, where its levels' ``region`` reads; any thread may call ``region``.

    Both raise InputError as `open_slide_file` does, and if the reader dies, or takes too much time or memory.
    """
    if not path.is_file():
        kind = "a folder, not a slide" if path.is_dir() else "a pipe or a device, not a file"
        raise InputError(f"{path}: {kind if path.exists() else 'no such file'}")
    with sandbox_for(path) as ask:

        def level(number: int, height: int, width: int) -> Level:
            return Level(height, width, lambda window: ask(read_region, number, *astuple(window)))

        facts = ask(describe)
        if min(facts["sizes"][0]) < 1:
            raise InputError(f"{path}: damaged: it has no pixels; get the file again")
        levels = tuple(level(number, *size) for number, size in enumerate(facts["sizes"]) if min(size) > 0)
        mpp = tuple(map(tuple, facts["mpp"]))
        yield SlideFile(levels, mpp, facts["objective"], tuple(facts["notes"]), tuple(facts["corner"]))
        with contextlib.suppress(InputError):  # the reader is dead
            ask(forget)


# --- In the sandbox ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _opened(path: Path) -> SlideFile:
    Image.MAX_IMAGE_PIXELS = None  # `check_size` sets the limit
    return open_slide_file(path)


def describe(path: Path) -> dict[str, Any]:
    """Open a file, and return its metadata; the file stays open."""
    file = _opened(path)
    sizes = [(level.height, level.width) for level in file.levels]
    return {"sizes": sizes, "mpp": file.mpp, "objective": file.objective, "notes": file.notes, "corner": file.corner}


def read_region(path: Path, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a window of a level, (height, width, 3) uint8."""
    with decoding(path):
        return _opened(path).levels[level].region(Window(top, left, height, width))


def forget(path: Path) -> None:
    """Close the file."""
    _opened(path).close()
    _opened.cache_clear()


def open_slide_file(path: Path) -> SlideFile:
    """Open a file with the backend that reads it best; raise InputError if none does."""
    with decoding(path):
        if is_for_openslide(path):
            return _open_scanners_file(path)
        if is_tiff(path):
            return open_with_tifffile(path)
        if path.suffix.lower() in SLIDE_ENDINGS:
            raise InputError(
                f"{path}: named as a slide, but holds none that can be read: damaged or cut off (get the file again), "
                "or of a variety that is not supported (export it as OME-TIFF)"
            )
        return open_with_pillow(path)


def is_for_openslide(path: Path) -> bool:
    """Tell whether OpenSlide shows a file correctly: scanners' files, and other tiled TIFFs of 8-bit RGB."""
    import openslide

    vendor = openslide.OpenSlide.detect_format(path)
    return bool(vendor) and (vendor != "generic-tiff" or suits_openslide(path))


def _open_scanners_file(path: Path) -> SlideFile:
    """Open a slide with OpenSlide or, if that fails on an intact TIFF, as with some codecs, with tifffile."""
    import openslide

    try:
        file = open_with_openslide(path)
        full = file.levels[0]
        full.region(Window(full.height // 2, full.width // 2, 1, 1))
        return file
    except openslide.OpenSlideError as error:
        reason = line_of(error)
        if not is_tiff(path):
            raise InputError(f"{path}: a slide that cannot be read, or damaged ({reason})") from error
        try:
            return open_with_tifffile(path)
        except Exception as second:
            if isinstance(second, InputError) and "damaged" not in str(second):
                raise
            raise InputError(f"{path}: a slide that is damaged ({reason}); get the file again") from error
