"""Make deep-zoom tiles and thumbnails of slides and images for the browser."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..io.reading import line_of
from ..io.sandbox import sandbox_for
from ..slide_io.formats import is_for_openslide
from ..slide_io.slide import Slide, open_slide
from ..slide_io.tifffile_backend import is_tiff
from ..tiles import Window
from .cache import Cache, stamp

if TYPE_CHECKING:
    from openslide.deepzoom import DeepZoomGenerator

TILE, OVERLAP = 510, 1  #: side of a tile without its overlap, and overlap with each neighbour, in px

QUALITY = 85  #: of JPEG
THUMBNAIL = 320  #: longest side of a thumbnail, in px

#: Most pixels of a shown file without a pyramid: it takes 200 MB, and as much again while it is decoded.
PLAIN_PIXELS = 64_000_000

#: Processes that read a slide's tiles in parallel.
READERS = 2

#: Memory limit of all opened files, in bytes, and least cost of a file, as its readers are processes.
OPENED_BYTES, FILE_BYTES = 300 << 20, 150 << 20


@dataclass(frozen=True)
class Picture:
    """An opened slide or image."""

    height: int  #: at full resolution, in px
    width: int
    region: Callable[[int, int, int], Image.Image]  #: (level, column, row) to a deep-zoom tile, RGB; thread-safe
    small: Callable[[int], Image.Image]  #: longest side in px to the whole picture, RGB
    nbytes: int = FILE_BYTES  #: most memory that it takes, in bytes
    close: Callable[[], None] = lambda: None  #: ends its readers, which otherwise end with the last reference

    def grid(self, level: int) -> tuple[int, int]:
        """Return the numbers of tile rows and columns on a level; raise LookupError if there is no such level."""
        smaller = levels_of(self.height, self.width) - 1 - level
        if level < 0 or smaller < 0:
            raise LookupError
        return tuple(-(-side // (TILE << smaller)) for side in (self.height, self.width))


class Pictures:
    """Cache of opened slides and images, and of their thumbnails."""

    def __init__(self):
        self._opened = Cache(OPENED_BYTES, lambda picture: picture.nbytes)
        self._thumbnails = Cache(16 << 20, len)

    def open(self, path: Path, mpp: float | None) -> Picture:
        """Return an opened slide or image; raise FileNotFoundError if it is gone, InputError if it is unreadable."""

        def opened() -> Picture:
            stack = contextlib.ExitStack()
            return replace(stack.enter_context(opened_picture(path, mpp, READERS)), close=stack.close)

        return self._opened.get(stamp(path), opened)

    def tile(self, path: Path, mpp: float | None, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG; raise LookupError if there is no such tile, or the errors of `open`."""
        picture = self.open(path, mpp)
        rows, columns = picture.grid(level)
        if not (0 <= row < rows and 0 <= column < columns):
            raise LookupError
        try:
            return jpeg(picture.region(level, column, row))
        except InputError:  # its reader may be dead
            self._opened.drop(stamp(path))
            raise

    def thumbnail(self, path: Path, mpp: float | None) -> Image.Image:
        """Return the whole picture as a small image."""

        def made() -> bytes:
            with opened_picture(path, mpp) as picture:
                return jpeg(picture.small(THUMBNAIL), 90)

        content = self._thumbnails.get(stamp(path), made)
        return Image.open(io.BytesIO(content))


@contextlib.contextmanager
def opened_picture(path: Path, mpp: float | None, readers: int = 1) -> Iterator[Picture]:
    """Open a slide or image with `readers` processes that read in parallel; raise InputError if it is unreadable."""
    with contextlib.ExitStack() as stack:
        free: SimpleQueue[Callable[..., Any]] = SimpleQueue()
        free.put(stack.enter_context(sandbox_for(path)))

        def ask(function: Callable, *arguments: int) -> Any:
            reader = free.get()
            try:
                return reader(function, *arguments)
            finally:
                free.put(reader)

        size = ask(size_of)
        if size:
            for _ in range(1, readers):
                free.put(stack.enter_context(sandbox_for(path)))

            def region(level: int, column: int, row: int) -> Image.Image:
                return Image.fromarray(ask(tile_of, level, column, row))

            def small(side: int) -> Image.Image:
                picture = Image.fromarray(ask(overview_of))
                picture.thumbnail((side, side))
                return picture

            yield Picture(*size, region, small)
            for _ in range(readers):
                with contextlib.suppress(InputError):  # the reader is dead
                    free.get()(forget)
            return
    with open_slide(path, mpp or 1.0) as slide:
        yield _by_windows(slide)


def _by_windows(slide: Slide) -> Picture:
    """Return the picture of a file that OpenSlide cannot show, read as `segment` does, by one thread at a time."""
    pixels, plain = slide.height * slide.width, len(slide.levels) == 1
    if plain and pixels > PLAIN_PIXELS:
        raise InputError(
            f"{slide.path}: {pixels / 1e6:.0f} megapixels in one piece, of which at most {PLAIN_PIXELS / 1e6:.0f} are "
            "shown; convert it to a pyramid, such as by: vips tiffsave IN OUT.tif --tile --pyramid"
        )

    def window(top: int, left: int, height: int, width: int, factor: float) -> Image.Image:
        return Image.fromarray(slide.read(Window(top, left, height, width), slide.mpp * factor))

    def region(level: int, column: int, row: int) -> Image.Image:
        factor = 2 ** (levels_of(slide.height, slide.width) - 1 - level)
        sides = -(-slide.height // factor), -(-slide.width // factor)
        first = [max(n * TILE - OVERLAP, 0) for n in (row, column)]
        last = [min((n + 1) * TILE + OVERLAP, side) for n, side in zip((row, column), sides, strict=True)]
        return window(*first, *np.subtract(last, first).tolist(), factor)

    def small(side: int) -> Image.Image:
        factor = max(1.0, max(slide.height, slide.width) / side)
        return window(0, 0, *slide.size(slide.mpp * factor), factor)

    return Picture(slide.height, slide.width, region, small, FILE_BYTES + 4 * pixels * plain)


def levels_of(height: int, width: int) -> int:
    """Return the number of deep-zoom levels; the smallest has one pixel."""
    return 1 + (max(height, width) - 1).bit_length()


def jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    """Encode an image as JPEG."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=quality)
    return content.getvalue()


# --- The reader's side ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _tiles(path: Path) -> DeepZoomGenerator:
    from openslide import OpenSlide
    from openslide.deepzoom import DeepZoomGenerator

    # If the file states the scanned bounds, show these: label maps and outlines begin at their corner.
    return DeepZoomGenerator(OpenSlide(path), TILE, OVERLAP, limit_bounds=True)


def size_of(path: Path) -> tuple[int, int] | None:
    """Open a slide; return its height and width, or None if OpenSlide cannot show it correctly."""
    import openslide

    try:
        if not is_for_openslide(path):
            return None
        width, height = _tiles(path).level_dimensions[-1]
        return height, width
    except openslide.OpenSlideError as error:
        if is_tiff(path):
            return None
        raise _damaged(path, error) from error


def tile_of(path: Path, level: int, column: int, row: int) -> np.ndarray:
    """Return a tile, (height, width, 3) uint8."""
    try:
        return np.asarray(_tiles(path).get_tile(level, (column, row)).convert("RGB"))
    except Exception as error:
        _tiles.cache_clear()  # once a handle has failed, OpenSlide repeats its error for every tile
        raise _damaged(path, error) from error


def overview_of(path: Path) -> np.ndarray:
    """Return the whole slide, (height, width, 3) uint8, at the largest level that fits into one tile."""
    sizes = _tiles(path).level_dimensions
    return tile_of(path, max(level for level, size in enumerate(sizes) if max(size) <= TILE), 0, 0)


def forget(path: Path) -> None:
    """Close the slide."""
    _tiles.cache_clear()


def _damaged(path: Path, error: Exception) -> InputError:
    """Return a one-line InputError for an error that a library raised."""
    return InputError(f"{path}: cannot be read, or damaged ({line_of(error)}); get the file again")
