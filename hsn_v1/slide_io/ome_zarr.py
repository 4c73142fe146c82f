"""Write label maps as OME-Zarr labels (NGFF 0.4), by the library ome-zarr, which is an extra: ``hsn_v1[zarr]``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..tiles import Window
from .label_maps import FILE_TILE, LabelMapInfo
from .tifffile_backend import tiled_region

if TYPE_CHECKING:
    import dask.array
    from tifffile import TiffPage


def check_ome_zarr() -> None:
    """Raise InputError if ome-zarr is not installed."""
    if not find_spec("ome_zarr"):
        raise InputError("`zarr` needs ome-zarr: pip install 'hsn_v1[zarr]'")


def write_ome_zarr(path: Path, label_map: Path, picture: np.ndarray, info: LabelMapInfo) -> None:
    """Convert a label map's file to OME-Zarr labels of a picture of the whole slide, (h, w, 3) uint8, chunk by chunk.

    A pixel's value is its class index plus 1; no tissue is 0, where viewers show nothing. `path` is a folder, whose
    content is replaced. `label_map` is a file of `label_maps.write_label_map`, and `info` describes it.
    """
    import dask
    import tifffile
    import zarr
    from ome_zarr.format import FormatV04
    from ome_zarr.writer import write_multiscale, write_multiscale_labels

    shutil.rmtree(path, ignore_errors=True)
    group, label_set = zarr.open_group(str(path), mode="w", zarr_format=2), info.label_set
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    axes = [{"name": "c", "type": "channel"}, *space]
    scale = _scale(info, *picture.shape[:2], 1)
    write_multiscale([np.moveaxis(picture, -1, 0)], group, FormatV04(), axes, [scale], name=info.title)
    colours = [(*label_set.colours[code], 255) for code in label_set.codes]
    names = map(label_set.describe, label_set.codes)
    about = {
        "colors": [{"label-value": value, "rgba": list(colour)} for value, colour in enumerate(colours, 1)],
        "properties": [{"label-value": value, "class": name} for value, name in enumerate(names, 1)],
        "source": {"image": "../../"},
    }
    with tifffile.TiffFile(label_map) as file, dask.config.set(scheduler="synchronous"):
        levels = [_chunks(level.pages[0], len(label_set)) for level in file.series[0].levels]
        scales = [_scale(info, *level.shape) for level in levels]
        how: Mapping[str, Any] = {"coordinate_transformations": scales, "label_metadata": about}
        write_multiscale_labels(levels, group, label_set.name, FormatV04(), space, **how)


def _scale(info: LabelMapInfo, height: int, width: int, *channels: int) -> list[dict[str, Any]]:
    sides = [info.mpp * info.height / height, info.mpp * info.width / width]  # microns of the label map's field
    return [{"type": "scale", "scale": [*map(float, channels), *sides]}]


def _chunks(page: TiffPage, classes: int) -> dask.array.Array:
    """Return a level of a label map's file in OME-Zarr's values, as a Dask array that reads each chunk on demand."""
    import dask.array

    def read(block_info: Mapping) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        labels = tiled_region(page, Window(top, left, bottom - top, right - left))[..., 0]
        return np.where(labels < classes, labels + 1, 0).astype(np.uint8)

    chunks = dask.array.core.normalize_chunks(FILE_TILE, page.shape[:2])
    return dask.array.map_blocks(read, chunks=chunks, dtype=np.uint8)
