"""Slides and other images at any scale: RGB windows, read from the pyramid level that fits.

OpenSlide reads what scanners write, tifffile OME-TIFF, and Pillow plain images, which are one level kept in memory.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from ..errors import InputError
from .images import read_image

#: Microns per pixel that a microscope or scanner can have; other figures, such as 72 dpi, are no scale.
PLAUSIBLE_MPP = 0.05, 10.0

#: Pixels at the classifier's scale up to which an image without pyramid is plain, no slide.
PLAIN_PIXELS = 64_000_000

#: Pixels up to which an image is decoded as a whole: 1.2 GB, and four times that while it is decoded.
DECODED_PIXELS = 400_000_000

#: Pixels of a level that are resampled at once.
PIECE_PIXELS = 1 << 24

#: A level may be this much coarser than asked for.
TOLERANCE = 1.01

HOW_TO_FIND_MPP = (
    "microns per pixel, from the scanner's or microscope's documentation, typically 0.25 for a 40x and 0.5 for a 20x "
    "objective"
)


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    height, width : int
        In px of this level.
    region : callable
        ``region(top, left, height, width)``, inside the level, gives an ndarray of shape (height, width, 3), uint8.
    """

    height: int
    width: int
    region: Callable[[int, int, int, int], np.ndarray]


@dataclass(frozen=True)
class Slide:
    """An opened slide or image; a context manager. Each process opens its own.

    Attributes
    ----------
    path : Path
    mpp : float
        Microns per pixel at full resolution.
    notes : tuple of str
        What the user should know.
    levels : tuple of Level
        The first one is full resolution.
    close : callable
        Closes the file.
    """

    path: Path
    mpp: float
    notes: tuple[str, ...]
    levels: tuple[Level, ...]
    close: Callable[[], None]

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def height(self) -> int:
        """Rows at full resolution."""
        return self.levels[0].height

    @property
    def width(self) -> int:
        """Columns at full resolution."""
        return self.levels[0].width

    def size(self, mpp: float) -> tuple[int, int]:
        """Rows and columns of the whole slide at another scale, at least 1."""
        return tuple(max(1, round(side * self.mpp / mpp)) for side in (self.height, self.width))

    def read(self, top: int, left: int, height: int, width: int, mpp: float) -> np.ndarray:
        """Read a window of the slide, scaled to `mpp`.

        A pixel is the same in every window, up to rounding by 1. The whole slide is stretched to whole pixels
        (`size`). Downsampling averages under a triangle: it does not alias, and unlike bicubic or Lanczos filters
        it does not ring, which would draw halos around nuclei.

        Parameters
        ----------
        top, left : int
            In px at `mpp`. What lies outside the slide is mirrored, as by ``cv2.BORDER_REFLECT``.
        height, width : int
            In px at `mpp`.
        mpp : float
            May be finer than the slide's.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            RGB; transparent areas show the slide's background colour, or white.

        Raises
        ------
        InputError
            If this part of the file is damaged.
        """
        rows, columns = self.size(mpp)
        row, column = _mirrored(top, height, rows), _mirrored(left, width, columns)
        inside = row.min(), column.min(), np.ptp(row) + 1, np.ptp(column) + 1
        with _one_line(self.path):
            window = _resample(self._level(mpp), rows, columns, *map(int, inside))
        return window[np.ix_(row - row.min(), column - column.min())]

    def _level(self, mpp: float) -> Level:
        """The coarsest level that is at least as fine as `mpp`, or the finest."""

        def reduction(level: Level) -> float:
            return max(self.height / level.height, self.width / level.width)

        fine = [level for level in self.levels if reduction(level) <= TOLERANCE * mpp / self.mpp]
        return max(fine, key=reduction, default=self.levels[0])


def open_slide(path: Path, mpp: float | None = None) -> Slide:
    """Open a slide or an image.

    Parameters
    ----------
    path : Path
        Slide of a format that OpenSlide reads, OME-TIFF with 8-bit RGB, or an image file.
    mpp : float, optional
        Microns per pixel at full resolution; otherwise the file must tell. Pixels whose height and width differ by
        up to 1 % count as square, with the mean of both; other files are refused unless `mpp` is given.

    Returns
    -------
    Slide

    Raises
    ------
    InputError
        If the file cannot be read, or there is no plausible scale.
    """
    path = Path(path)
    if mpp is not None and not _plausible(mpp):
        raise InputError(f"--mpp {mpp:g}: expected {PLAUSIBLE_MPP[0]:g} to {PLAUSIBLE_MPP[1]:g}; {HOW_TO_FIND_MPP}")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(_open(path)))
        if mpp is None:
            mpp, notes = _told(path, source), ()
        elif source.mpp and abs(np.mean(source.mpp) / mpp - 1) > 0.01:
            notes = (f"{path}: {mpp:g} mpp as given, though the file tells {np.mean(source.mpp):.4g}",)
        else:
            notes = ()
        return Slide(path, mpp, notes, source.levels, stack.pop_all().close)


def is_slide(path: Path, scale: float, mpp: float | None = None) -> bool:
    """Whether a file is a slide: a scanner's format, OME-TIFF, a pyramid, or over 64 megapixels at a `scale` in mpp.

    An image of unknown scale counts with its own pixels.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with contextlib.closing(_open(Path(path))) as source:
        own = mpp or (np.mean(source.mpp) if source.mpp else scale)
        pixels = source.levels[0].height * source.levels[0].width * (own / scale) ** 2
        return source.special or len(source.levels) > 1 or pixels > PLAIN_PIXELS


def mpp_of_image(path: Path) -> float | None:
    """Return the microns per pixel that an image's or slide's file tells, or None if it tells nothing plausible.

    Raises
    ------
    InputError
        If the file cannot be read, or its pixels are not square.
    """
    with contextlib.closing(_open(Path(path))) as source:
        return source.mpp and _square(path, *source.mpp)


def mpp_of_objective(text: str) -> float:
    """Return the approximate microns per pixel of an objective such as "20x": 10 um by its magnification.

    Raises
    ------
    InputError
        If `text` is no magnification from 1 to 200.
    """
    try:
        magnification = float(text.strip().lower().rstrip("x"))
    except ValueError:
        magnification = math.nan
    if not 1 <= magnification <= 200:
        raise InputError(f"--objective {text}: expected a magnification, such as 20x")
    return 10 / magnification


# --- Scale ------------------------------------------------------------------------------------------------------------


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]


def _told(path: Path, source: _Source) -> float:
    if source.mpp:
        return _square(path, *source.mpp)
    hint = f" (the file names a {source.objective}x objective)" if source.objective else ""
    raise InputError(
        f"{path}: the file does not tell its scale; add --mpp ({HOW_TO_FIND_MPP}), or roughly --objective, such as "
        f"20x{hint}"
    )


def _square(path: Path, vertical: float, horizontal: float) -> float:
    mean = (vertical + horizontal) / 2
    if abs(vertical - horizontal) > 0.01 * mean:
        raise InputError(
            f"{path}: pixels of {horizontal:.4g} x {vertical:.4g} microns; resample it to square pixels, or add --mpp "
            "if the file is wrong"
        )
    return mean


def _pair(vertical: object, horizontal: object, microns: Callable[[float], float] = float) -> tuple | None:
    """The height and width of a pixel in microns, from what a file tells, or None if that is no plausible scale."""
    try:
        pair = microns(float(vertical)), microns(float(horizontal))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return pair if all(map(_plausible, pair)) else None


# --- Windows ----------------------------------------------------------------------------------------------------------


def _mirrored(start: int, length: int, side: int) -> np.ndarray:
    """Where the pixels from `start` on come from in an axis of `side` px that goes on as its mirror image."""
    position = np.arange(start, start + length) % (2 * side)
    return np.minimum(position, 2 * side - 1 - position)


def _resample(
    level: Level, rows: int, columns: int, top: int, left: int, height: int, width: int
) -> np.ndarray:  # (height, width, 3)
    """Read a window of a level that is stretched to `rows` by `columns` px."""
    zoom_y, zoom_x = level.height / rows, level.width / columns
    if height * zoom_y * width * zoom_x > PIECE_PIXELS and max(height, width) > 1:
        axis = int(width > height)
        first = (height, width)[axis] // 2
        parts = (
            ((top, left, first, width), (top + first, left, height - first, width)),
            ((top, left, height, first), (top, left + first, height, width - first)),
        )[axis]
        return np.concatenate([_resample(level, rows, columns, *part) for part in parts], axis)
    y, above, below = _support(top, height, zoom_y, level.height)
    x, before, behind = _support(left, width, zoom_x, level.width)
    region = level.region(above, before, below - above, behind - before)
    box = x - before, y - above, x - before + width * zoom_x, y - above + height * zoom_y
    box = [min(edge, side) for edge, side in zip(box, region.shape[1::-1] * 2, strict=True)]
    window = np.empty((height, width, 3), np.uint8)
    for channel in range(3):  # in floating point: 8-bit images are rounded once along each axis
        grey = Image.fromarray(region[..., channel].astype(np.float32))
        window[..., channel] = np.rint(grey.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return window


def _support(start: int, length: int, zoom: float, side: int) -> tuple[float, int, int]:
    """Where a window begins along an axis of a level, and between which of its pixels the filter reaches."""
    margin = math.ceil(max(zoom, 1)) + 1
    first, last = math.floor(start * zoom) - margin, math.ceil((start + length) * zoom) + margin
    return start * zoom, max(first, 0), min(last, side)


# --- Files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """An opened file."""

    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None  # height and width of a pixel, if they are plausible
    objective: str | None  # magnification that the file names
    special: bool  # whether it is of a format that only slides have
    close: Callable[[], None] = lambda: None


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what decoders raise, which is all sorts of exceptions, into an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a slide or image, or damaged ({reason}); get the file again") from error


def _open(path: Path) -> _Source:
    import openslide

    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a slide' if path.is_dir() else 'no such file'}")
    with _one_line(path):
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor in (None, "generic-tiff") and _is_tiff(path):
            source = _ome(path)
            if source:
                return source
        return _openslide(path) if vendor else _image(path)


def _is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _openslide(path: Path) -> _Source:
    import openslide

    handle = openslide.OpenSlide(path)
    known = handle.properties
    white = "#" + known.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")

    def level(number: int) -> Level:
        width, height = handle.level_dimensions[number]
        downsample = handle.level_downsamples[number]

        def block(top: int, left: int, height: int, width: int) -> np.ndarray:
            corner = round(left * downsample), round(top * downsample)
            region = handle.read_region(corner, number, (width, height))
            if region.getextrema()[3][0] < 255:
                region = Image.alpha_composite(Image.new("RGBA", region.size, white), region)
            return np.asarray(region)[..., :3]

        def blocks(top: int, left: int, height: int, width: int) -> np.ndarray:
            region = np.empty((height, width, 3), np.uint8)
            for y, x, inside, target in overlapping(top, left, height, width, BLOCK, BLOCK):
                region[target] = block(y, x, BLOCK, BLOCK)[inside]
            return region

        # OpenSlide takes a corner in whole px of full resolution. Where that is no whole px of the level, it
        # interpolates, another way for each corner: only blocks with the same corners always give the same pixels.
        return Level(height, width, block if downsample.is_integer() else blocks)

    levels = tuple(map(level, range(handle.level_count)))
    mpp = _pair(known.get(openslide.PROPERTY_NAME_MPP_Y), known.get(openslide.PROPERTY_NAME_MPP_X))
    special = known[openslide.PROPERTY_NAME_VENDOR] != "generic-tiff"
    unit = {"inch": 25_400, "centimeter": 10_000}.get(known.get("tiff.ResolutionUnit"))
    if not mpp and unit:
        mpp = _pair(known.get("tiff.YResolution"), known.get("tiff.XResolution"), lambda density: unit / density)
    return _Source(levels, mpp, known.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER), special, handle.close)


BLOCK = 256


def overlapping(top: int, left: int, height: int, width: int, tall: int, wide: int) -> Iterator[tuple]:
    """Tiles of `tall` by `wide` px that a window overlaps: corner, and what overlaps, in the tile and the window."""
    for y in range(top - top % tall, top + height, tall):
        for x in range(left - left % wide, left + width, wide):
            first_y, last_y = max(y, top), min(y + tall, top + height)
            first_x, last_x = max(x, left), min(x + wide, left + width)
            inside = np.s_[first_y - y : last_y - y, first_x - x : last_x - x]
            yield y, x, inside, np.s_[first_y - top : last_y - top, first_x - left : last_x - left]


def _ome(path: Path) -> _Source | None:
    """Open an OME-TIFF; other TIFFs give None, unless OpenSlide would quietly make 8-bit RGB of something else."""
    import tifffile

    tifffile.logger().disabled = True  # what it finds wrong ends as an InputError, or does no harm
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tifffile.TiffFile(path))
        if file.is_ome:
            series = max(file.series, key=lambda series: series.size)
            levels = tuple(_ome_level(path, level) for level in series.levels)
            return _Source(levels, *_ome_scale(file, file.series.index(series)), True, close=stack.pop_all().close)
        page = file.pages.first
        if page.dtype is None or page.dtype.itemsize > 1:
            raise InputError(f"{path}: pixels of type {page.dtype}; convert it to 8-bit RGB")
        if page.is_tiled and page.photometric in (0, 1):  # not only fluorescence: a damaged OME-TIFF looks so, too
            raise InputError(f"{path}: a single channel, not 8-bit RGB; convert it, or get the file again")
    return None


def _ome_level(path: Path, level) -> Level:
    sides = dict(zip(level.axes, level.shape, strict=True))
    channels = sides.get("S", sides.get("C"))
    if level.dtype != np.uint8 or channels != 3 or len(sides) != 3 or not {"X", "Y"} < set(sides):
        shape = ", ".join(f"{axis}={side}" for axis, side in sides.items())
        raise InputError(f"{path}: OME-TIFF of {level.dtype} pixels with axes {shape}; expected 8-bit RGB, one plane")

    @cache
    def decoded(page) -> np.ndarray:  # (H, W, samples)
        _check_size(path, sides["Y"], sides["X"])
        pixels = page.asarray()
        return np.moveaxis(pixels, 0, -1) if page.keyframe.planarconfig == 2 else pixels.reshape(*pixels.shape[:2], -1)

    def region(top: int, left: int, height: int, width: int) -> np.ndarray:
        if level.keyframe.is_tiled:
            planes = [_tiled_region(page, top, left, height, width) for page in level.pages]
        else:
            planes = [decoded(page)[top : top + height, left : left + width] for page in level.pages]
        return np.concatenate(planes, axis=-1)

    return Level(sides["Y"], sides["X"], region)


def _tiled_region(page, top: int, left: int, height: int, width: int) -> np.ndarray:  # (height, width, samples)
    layout, file = page.keyframe, page.parent.filehandle
    tall, wide, samples = layout.tilelength, layout.tilewidth, layout.samplesperpixel
    down, across = -(-layout.imagelength // tall), -(-layout.imagewidth // wide)
    region = np.full((height, width, samples), 255, np.uint8)
    for y, x, inside, target in overlapping(top, left, height, width, tall, wide):
        for plane in range(samples if layout.planarconfig == 2 else 1):
            number = (plane * down + y // tall) * across + x // wide
            if page.databytecounts[number]:  # a tile may be left out
                file.seek(page.dataoffsets[number])
                encoded = file.read(page.databytecounts[number])
                if len(encoded) < page.databytecounts[number]:
                    raise EOFError("the file ends within a tile")
                tile = layout.decode(encoded, number, jpegtables=page.jpegtables)[0][0]
                region[(*target, slice(plane, plane + tile.shape[-1]))] = tile[inside]
    return region


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > DECODED_PIXELS:
        raise InputError(
            f"{path}: {width} x {height} px in one piece, of which at most {DECODED_PIXELS // 10**6} megapixels can be "
            "read; convert it to a tiled, pyramidal TIFF, such as by: vips tiffsave IN OUT.tif --tile --pyramid"
        )


def _ome_scale(file, number: int) -> tuple[tuple[float, float] | None, str | None]:
    """Pixel size of an image of an OME-TIFF, and the magnification of the objective."""
    root = ElementTree.fromstring(file.ome_metadata)
    pixels = root.findall("{*}Image")[number].find("{*}Pixels")
    sides = []
    for axis in "YX":
        size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        sides.append(size and unit in MICRONS and float(size) * MICRONS[unit])
    objective = root.find(".//{*}Objective")
    magnification = None if objective is None else objective.get("NominalMagnification")
    page = file.pages.first
    unit = {2: 25_400, 3: 10_000}.get(page.resolutionunit, 0)
    return _pair(*sides) or _pair(*page.resolution[::-1], lambda density: unit / density), magnification


#: Microns in each unit of length that OME-TIFF and ImageJ may name.
MICRONS = {"nm": 1e-3, "µm": 1, "μm": 1, "um": 1, "micron": 1, "\\u00B5m": 1, "mm": 1e3, "cm": 1e4, "m": 1e6}


def _image(path: Path) -> _Source:
    """Open a plain image, and decode it when it is first looked at."""
    with unlimited(), Image.open(path) as image:
        width, height = image.size
        mpp = _image_scale(image)
    _check_size(path, height, width)

    @cache
    def pixels() -> np.ndarray:
        with unlimited():
            return read_image(path)[0]

    def region(top: int, left: int, height: int, width: int) -> np.ndarray:
        return pixels()[top : top + height, left : left + width]

    return _Source((Level(height, width, region),), mpp, None, False, close=pixels.cache_clear)


def _image_scale(image: Image.Image) -> tuple[float, float] | None:
    if image.format == "TIFF" and "resolution" in image.info:  # no unit by the standard: ImageJ names it elsewhere
        description = str(image.tag_v2.get(270, ""))
        unit = dict(line.partition("=")[::2] for line in description.splitlines()).get("unit", "")
        return _pair(*image.info["resolution"][::-1], lambda density: MICRONS.get(unit, 0) / density)
    return _pair(*image.info.get("dpi", (0, 0))[::-1], lambda density: 25_400 / density)


@contextlib.contextmanager
def unlimited() -> Iterator[None]:
    """Let Pillow open images of any size; `_check_size` has the last word."""
    with _LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


_LIMIT = threading.RLock()  # the limit is one for all threads: two that lift it at once would not put it back
