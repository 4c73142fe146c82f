"""Which backend opens a file: the library that reads its format best."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..tiles import Window
from .base import SlideFile, decoding
from .openslide_backend import open_with_openslide
from .pillow_backend import open_with_pillow
from .tifffile_backend import is_tiff, open_with_tifffile, suits_openslide

#: Endings of formats that only slides have: such a file without a slide inside is damaged, not a plain image.
SLIDE_ENDINGS = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi", ".avs"),
    *(".qptiff", ".btf"),
)


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
    """Tell whether OpenSlide shows a file as it is: scanners' files, and of other tiled TIFFs those of 8-bit RGB."""
    import openslide

    vendor = openslide.OpenSlide.detect_format(path)
    return bool(vendor) and (vendor != "generic-tiff" or suits_openslide(path))


def _open_scanners_file(path: Path) -> SlideFile:
    """Open a slide with OpenSlide; where it fails on a TIFF that is whole, as with some codecs, with tifffile."""
    import openslide

    try:
        file = open_with_openslide(path)
        full = file.levels[0]
        full.region(Window(full.height // 2, full.width // 2, 1, 1))
        return file
    except openslide.OpenSlideError as error:
        reason = " ".join(str(error).split())[:200]
        if not is_tiff(path):
            raise InputError(f"{path}: a slide that cannot be read, or damaged ({reason})") from error
        try:
            return open_with_tifffile(path)
        except Exception as second:
            if isinstance(second, InputError) and "damaged" not in str(second):
                raise
            raise InputError(f"{path}: a slide that is damaged ({reason}); get the file again") from error
