"""Backend for OME-TIFF and other TIFFs, by tifffile: one image of 8-bit RGB, whose tiles are read on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError
from ..tiles import Window
from .base import CONVERT, Level, SlideFile, check_size, on_background, orientation_notes, overlapping
from .pillow_backend import open_with_pillow
from .scale import Mpp, mpp_of_density, mpp_of_size, stated

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: Compressions that OpenSlide reads in any tiled TIFF: none, LZW, JPEG, deflate, PackBits, Aperio's JPEG 2000.
OPENSLIDE_CODECS = (1, 5, 7, 8, 32773, 32946, 33003, 33005)


def is_tiff(path: Path) -> bool:
    """Tell whether a file begins like a TIFF."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def suits_openslide(path: Path) -> bool:
    """Tell whether OpenSlide shows a generic tiled TIFF correctly; OpenSlide would not refuse the others."""
    with _tiff(path) as file:
        page = file.pages.first
        orientation = page.tags.valueof(274, 1)
        return (
            not file.is_ome
            and page.dtype == np.uint8
            and page.photometric in (2, 6)
            and page.samplesperpixel == 3
            and orientation == 1
            and page.compression in OPENSLIDE_CODECS
        )


def open_with_tifffile(path: Path) -> SlideFile:
    """Open the largest image of a TIFF: OME-TIFF, ImageJ's of three channels, or 8-bit RGB; pyramid or single level.

    Pillow gets other images, unless they are tiled or OME-TIFF. Raises InputError if the image is a stack, its pixels
    are not 8-bit RGB, the file is cut off, or no decoder for its compression is installed.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_tiff(path))
        if not len(file.pages):
            raise InputError(f"{path}: a TIFF without an image, or damaged; get the file again")
        _check_chain(path, file)
        _check_companions(path, file)
        series = max(file.series, key=lambda series: _side(series, "Y") * _side(series, "X"))
        notes = [] if len(file.series) == 1 else _other_images(file, series)
        _check_planes(path, series)
        _check_complete(path, series)
        notes += orientation_notes(series.keyframe.tags.valueof(274, 1))
        if _is_grey(series):
            notes.append("greyscale, converted to RGB")
        elif not _is_rgb(series):
            if series.keyframe.is_tiled or file.is_ome:
                kind = f"{series.keyframe.photometric.name} pixels of {series.dtype}"
                sides = _sides(zip(series.axes, series.shape, strict=True))
                raise InputError(f"{path}: {kind} with axes {sides}; expected 8-bit RGB: convert it")
            image = open_with_pillow(path, series.keyframe.index)
            return replace(image, notes=(*notes, *image.notes))
        _check_codec(path, series)
        if series.keyframe.samplesperpixel == 4:
            notes.append("transparent pixels are taken as white")
        for page in (page for level in series.levels for page in level.pages):
            stack.callback(page.parent.filehandle.close)
        return SlideFile(
            levels=tuple(_level(path, level) for level in series.levels),
            mpp=_stated_mpp(file, series),
            objective=_objective(file),
            notes=tuple(notes),
            close=stack.pop_all().close,
        )


def _tiff(path: Path) -> TiffFile:
    import tifffile

    tifffile.logger().disabled = True  # faults that matter become InputError
    return tifffile.TiffFile(path)


def _side(series: TiffPageSeries, axis: str) -> int:
    return dict(zip(series.axes, series.shape, strict=True)).get(axis, 1)


def _other_images(file: TiffFile, series: TiffPageSeries) -> list[str]:
    largest, *others = (
        f"{_side(item, 'X')} x {_side(item, 'Y')} px" for item in sorted(file.series, key=lambda s: s is not series)
    )
    return [f"holds {len(file.series)} images; the largest is read, {largest}, not those of {', '.join(others)}"]


def _check_chain(path: Path, file: TiffFile) -> None:
    """Raise InputError if the last page points to a next one, which is missing: the file is cut off."""
    handle = file.filehandle
    handle.seek(file.pages.next_page_offset)
    if any(handle.read(file.tiff.offsetsize)):
        raise InputError(f"{path}: damaged: it ends before its last page; get the file again")


def _check_companions(path: Path, file: TiffFile) -> None:
    """Raise InputError if an OME-TIFF names files outside its own folder, or a pipe or device."""
    if not file.is_ome:
        return
    for uuid in ElementTree.fromstring(file.ome_metadata).findall(".//{*}UUID"):
        name = uuid.get("FileName", path.name)
        other = path.parent / name
        if Path(name).name != name or (other.exists() and not other.is_file()):
            raise InputError(f"{path}: names {name!r}, expected files of its own folder; get the file again")


def _check_complete(path: Path, series: TiffPageSeries) -> None:
    for page in (page for level in series.levels for page in level.pages):
        if page is None:
            raise InputError(
                f"{path}: an OME-TIFF of several files, some of which are not here; put them into its folder"
            )
        ends = np.add(page.dataoffsets, page.databytecounts, dtype=np.int64)
        if ends.max(initial=0) > page.parent.filehandle.size:
            raise InputError(f"{path}: damaged: it ends before its pixels do; get the file again")


def _check_planes(path: Path, series: TiffPageSeries) -> None:
    planes = [(axis, side) for axis, side in zip(series.axes, series.shape, strict=True) if axis not in "YXSC"]
    if any(side > 1 for _, side in planes):
        raise InputError(f"{path}: a stack of planes ({_sides(planes)}); save the one to segment as a file of its own")


def _sides(planes: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{axis}={side}" for axis, side in planes)


def _is_rgb(series: TiffPageSeries) -> bool:
    """Tell whether tifffile reads a series as RGB: from colour planes or pixels, or from three channels."""
    page, samples, channels = series.keyframe, _side(series, "S"), _side(series, "C")
    if series.dtype != np.uint8 or not {"Y", "X"} < set(series.axes):
        return False
    if samples == 1:
        return channels == 3 and page.photometric in (1, 2)
    colours = page.photometric == 2 or (page.photometric == 6 and page.compression == 7)
    return channels == 1 and colours and samples in (3, 4)


def _is_grey(series: TiffPageSeries) -> bool:
    """Tell whether a series is one grey image without tiles; a tiled one is rather a channel of fluorescence."""
    page = series.keyframe
    kind = page.photometric == 1 and page.samplesperpixel == 1 and not page.is_tiled and not page.parent.is_ome
    return kind and series.dtype == np.uint8 and set(series.axes) == {"Y", "X"}


def _check_codec(path: Path, series: TiffPageSeries) -> None:
    import tifffile

    try:
        tifffile.TIFF.DECOMPRESSORS[series.keyframe.compression]
    except (KeyError, ImportError):
        name = getattr(series.keyframe.compression, "name", series.keyframe.compression)
        raise InputError(f"{path}: its compression ({name}) is not supported; {CONVERT} --compression jpeg") from None


def _level(path: Path, series: TiffPageSeries) -> Level:
    height, width = _side(series, "Y"), _side(series, "X")

    @cache
    def decoded(page: TiffPage) -> np.ndarray:  # (H, W, samples)
        check_size(path, height, width)
        _keep_open(page)
        pixels = page.asarray()
        return np.moveaxis(pixels, 0, -1) if page.keyframe.planarconfig == 2 else pixels.reshape(*pixels.shape[:2], -1)

    def region(window: Window) -> np.ndarray:
        if series.keyframe.is_tiled:
            planes = [tiled_region(page, window) for page in series.pages]
        else:
            planes = [decoded(page)[window.within(Window(0, 0, height, width))] for page in series.pages]
        pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
        if pixels.shape[-1] == 1:
            return np.repeat(pixels, 3, axis=-1)
        return on_background(pixels) if pixels.shape[-1] == 4 else pixels

    return Level(height, width, region)


def _keep_open(page: TiffPage) -> None:
    """Open a page's file again if it is closed: of several files, tifffile closed all but the first."""
    if page.parent.filehandle.closed:
        page.parent.filehandle.open()


def tiled_region(page: TiffPage, window: Window) -> np.ndarray:
    """Read a window of a tiled page, (height, width, samples) uint8; tiles left out of the file are white."""
    layout, file = page.keyframe, page.parent.filehandle
    tall, wide, samples = layout.tilelength, layout.tilewidth, layout.samplesperpixel
    down, across = -(-layout.imagelength // tall), -(-layout.imagewidth // wide)
    _keep_open(page)
    region = np.full((window.height, window.width, samples), 255, np.uint8)
    for tile, inside, target in overlapping(window, tall, wide):
        for plane in range(samples if layout.planarconfig == 2 else 1):
            number = (plane * down + tile.top // tall) * across + tile.left // wide
            if page.databytecounts[number]:
                file.seek(page.dataoffsets[number])
                encoded = file.read(page.databytecounts[number])
                if len(encoded) < page.databytecounts[number]:
                    raise EOFError("the file ends within a tile")
                pixels = layout.decode(encoded, number, jpegtables=page.jpegtables)[0][0]
                region[(*target, slice(plane, plane + pixels.shape[-1]))] = pixels[inside]
    return region


def _stated_mpp(file: TiffFile, series: TiffPageSeries) -> tuple[Mpp, ...]:
    """Return the pixel sizes that a file states for a series: OME metadata, ImageJ's metadata, TIFF's resolution."""
    across, down = series.keyframe.resolution
    units, pairs = [], []
    if file.is_ome:
        root = ElementTree.fromstring(file.ome_metadata)
        pixels = root.findall("{*}Image")[file.series.index(series)].find("{*}Pixels")
        sizes = [(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "YX"]
        pairs.append(tuple(mpp_of_size(size, unit) for size, unit in sizes))
    if file.is_imagej:
        units.append(file.imagej_metadata.get("unit", ""))
    if (down, across) != (1, 1):  # tifffile's value if the file states none
        units.append(int(series.keyframe.resolutionunit))
    return stated(*pairs, *((mpp_of_density(down, unit), mpp_of_density(across, unit)) for unit in units))


def _objective(file: TiffFile) -> str | None:
    lens = ElementTree.fromstring(file.ome_metadata).find(".//{*}Objective") if file.is_ome else None
    return None if lens is None else lens.get("NominalMagnification")
