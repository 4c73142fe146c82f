"""Pictures of slides for the browser: deep-zoom tiles and thumbnails, from whatever file a slide is."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.slide import open_slide
from ..files.tiff_file import is_tiff, suits_openslide
from ..tiles import Window
from .cache import Cache, stamp

TILE, OVERLAP = 510, 1  #: inner side of a tile and what it shows of each neighbour, in px
QUALITY = 85  #: of JPEG
THUMBNAIL = 320  #: longest side of a thumbnail, in px

#: Pixels of a file without a pyramid that are decoded at once: 200 MB, and as much again while it is decoded.
PLAIN_PIXELS = 64_000_000

#: What OpenSlide may keep of tiles that it has decoded, for all slides together, in bytes.
OPENSLIDE_BYTES = 64 << 20

#: What opened files may take together, in bytes, and what each counts at least.
OPENED_BYTES, FILE_BYTES = 200 << 20, 16 << 20


@dataclass(frozen=True)
class Picture:
    """An opened slide or image.

    Attributes
    ----------
    height, width : int
        At full resolution, in px.
    region : callable
        ``region(level, column, row)`` gives a deep-zoom tile as an RGB image; any thread may call it.
    small : callable
        ``small(side)`` gives the whole picture as an RGB image of at most `side` px.
    nbytes : int
        Memory that it may take, in bytes.
    """

    height: int
    width: int
    region: Callable[[int, int, int], Image.Image]
    small: Callable[[int], Image.Image]
    nbytes: int = FILE_BYTES

    @cached_property
    def levels(self) -> int:
        """Number of deep-zoom levels, the smallest of one pixel."""
        return 1 + math.ceil(math.log2(max(self.height, self.width)))

    def grid(self, level: int) -> tuple[int, int]:
        """Return the numbers of rows and columns of tiles on a level; LookupError if there is no such level."""
        if not 0 <= level < self.levels:
            raise LookupError
        factor = 2 ** (self.levels - 1 - level)
        return tuple(-(-math.ceil(side / factor) // TILE) for side in (self.height, self.width))


class Pictures:
    """The slides that are looked at, opened as long as they are."""

    def __init__(self):
        import openslide

        self._opened = Cache(OPENED_BYTES, lambda picture: picture.nbytes)
        self._thumbnails = Cache(16 << 20, len)
        self._decoded = openslide.OpenSlideCache(OPENSLIDE_BYTES)

    def open(self, path: Path, mpp: float | None) -> Picture:
        """Return an opened slide or image.

        Raises
        ------
        FileNotFoundError
            If it is gone.
        InputError
            If it cannot be read.
        """
        return self._opened.get(stamp(path), lambda: _open(path, mpp, self._decoded))

    def tile(self, path: Path, mpp: float | None, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG; LookupError if there is no such tile, and errors of `open`."""
        picture = self.open(path, mpp)
        rows, columns = picture.grid(level)
        if not (0 <= row < rows and 0 <= column < columns):
            raise LookupError
        try:
            return jpeg(picture.region(level, column, row))
        except (InputError, OSError) as error:  # a handle that met damage answers with this from then on
            self._opened.drop(stamp(path))
            raise error if isinstance(error, InputError) else _damaged(path, error) from error

    def thumbnail(self, path: Path, mpp: float | None) -> Image.Image:
        """Return the whole picture as a small image."""
        content = self._thumbnails.get(stamp(path), lambda: jpeg(self.open(path, mpp).small(THUMBNAIL), 90))
        return Image.open(io.BytesIO(content))


def _open(path: Path, mpp: float | None, decoded) -> Picture:
    import openslide

    vendor, tiff = openslide.OpenSlide.detect_format(path), is_tiff(path)
    if vendor and (vendor != "generic-tiff" or not tiff or suits_openslide(path)):
        try:
            return _by_openslide(path, decoded)
        except openslide.OpenSlideError as error:
            if not tiff:
                raise _damaged(path, error) from error
    return _by_windows(path, mpp)


def _by_openslide(path: Path, decoded) -> Picture:
    """The part that was scanned, where the file says which: label maps and outlines begin at its corner."""
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    handle = openslide.OpenSlide(path)
    handle.set_cache(decoded)
    tiles = DeepZoomGenerator(handle, TILE, OVERLAP, limit_bounds=True)
    width, height = tiles.level_dimensions[-1]

    def region(level: int, column: int, row: int) -> Image.Image:
        return _guarded(path, lambda: tiles.get_tile(level, (column, row)))

    def small(side: int) -> Image.Image:
        level = max(n for n, size in enumerate(tiles.level_dimensions) if max(size) <= TILE)
        picture = region(level, 0, 0)
        picture.thumbnail((side, side))
        return picture

    return Picture(height, width, region, small)


def _guarded(path: Path, read: Callable[[], Image.Image]) -> Image.Image:
    import openslide

    try:
        return read()
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read, or damaged ({' '.join(str(error).split())[:200]}); get the file again")


def _by_windows(path: Path, mpp: float | None) -> Picture:
    """What OpenSlide does not read, read as it was segmented, by one thread at a time."""
    slide = open_slide(path, mpp or 1.0)
    pixels, lock = slide.height * slide.width, threading.Lock()
    plain = len(slide.levels) == 1
    if plain and pixels > PLAIN_PIXELS:
        slide.close()
        raise InputError(
            f"{path}: {pixels / 1e6:.0f} megapixels in one piece, of which at most {PLAIN_PIXELS / 1e6:.0f} are shown; "
            "convert it to a pyramid, such as by: vips tiffsave IN OUT.tif --tile --pyramid"
        )

    def window(top: int, left: int, height: int, width: int, factor: float) -> Image.Image:
        with lock:
            return Image.fromarray(slide.read(Window(top, left, height, width), slide.mpp * factor))

    def region(level: int, column: int, row: int) -> Image.Image:
        factor = 2 ** (picture.levels - 1 - level)
        sides = math.ceil(slide.height / factor), math.ceil(slide.width / factor)
        first = [max(n * TILE - OVERLAP, 0) for n in (row, column)]
        last = [min((n + 1) * TILE + OVERLAP, side) for n, side in zip((row, column), sides, strict=True)]
        return window(*first, *np.subtract(last, first).tolist(), factor)

    def small(side: int) -> Image.Image:
        factor = max(1.0, max(slide.height, slide.width) / side)
        return window(0, 0, *slide.size(slide.mpp * factor), factor)

    picture = Picture(slide.height, slide.width, region, small, FILE_BYTES + 3 * pixels * plain)
    return picture


def jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    """Return an image as JPEG."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=quality)
    return content.getvalue()
