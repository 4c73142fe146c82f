"""Slides and other images, opened with the library that reads them best."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..tiles import Window
from .base import Source, one_line
from .openslide_backend import open_with_openslide
from .pillow_backend import open_image
from .tifffile_backend import is_tiff, open_tiff, suits_openslide

#: Endings of formats that only slides have: such a file without a slide inside is damaged, not a plain image.
SLIDE_ENDINGS = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi", ".avs"),
    *(".qptiff", ".btf"),
)


def open_source(path: Path) -> Source:
    """Open a file with the library that reads it best.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If it is no slide or image, or damaged, or of a kind that is not supported.
    """
    import openslide

    with one_line(path):
        vendor, tiff = openslide.OpenSlide.detect_format(path), is_tiff(path)
        if tiff and (not vendor or (vendor == "generic-tiff" and not suits_openslide(path))):
            return open_tiff(path)
        if vendor:
            return _openslide_or_tiff(path, tiff)
        if path.suffix.lower() in SLIDE_ENDINGS:
            raise InputError(
                f"{path}: named as a slide, but holds none that can be read: damaged or cut off (get the file again), "
                "or of a variety that is not supported (export it as OME-TIFF)"
            )
        return open_image(path)


def _openslide_or_tiff(path: Path, tiff: bool) -> Source:
    """Open a slide with OpenSlide; where it fails on a TIFF that is whole, as with some codecs, with tifffile."""
    import openslide

    try:
        source = open_with_openslide(path)
        source.levels[0].region(Window(source.levels[0].height // 2, source.levels[0].width // 2, 1, 1))
        return source
    except openslide.OpenSlideError as error:
        reason = " ".join(str(error).split())[:200]
        if not tiff:
            raise InputError(f"{path}: a slide that cannot be read, or damaged ({reason})") from error
        try:
            return open_tiff(path)
        except Exception as other:
            if isinstance(other, InputError) and "damaged" not in str(other):
                raise
            raise InputError(f"{path}: a slide that is damaged ({reason}); get the file again") from error
