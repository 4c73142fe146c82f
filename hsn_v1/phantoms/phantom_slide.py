"""Write phantom slides, mosaics of phantoms on glass, as tiled pyramids with exact ground truth and its outlines."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from ..adp import CLASSIFIER_MPP, LABEL_SETS
from ..errors import InputError
from ..io.masks import read_mask
from ..io.writing import replacing, write_bytes, write_picture
from ..parallel import available_cores, in_parallel
from ..slide_io.base import overlapping
from ..slide_io.label_maps import LabelMapInfo, write_label_map
from ..slide_io.polygons import write_polygons
from ..slide_io.scale import density_tags
from ..slide_io.tiling import average, pyramid_tiles
from ..tiles import Window
from . import phantom

#: Side of a phantom in the mosaic, in um: 350 px of the classifier, so that seams seldom coincide with tiles' borders.
FIELD = 425

#: Distinct phantoms in a slide.
FIELDS = 12

#: Side of the file's tiles, in px, and factor between its levels.
TILE, STEP = 256, 4

#: Random stream of the layout; see `phantom.PATCH_STREAM`.
SLIDE_STREAM = 3


@dataclass(frozen=True)
class Layout:
    """A slide's mosaic of phantoms and its tissue mask, at any pixel size."""

    fields: np.ndarray  #: (N, N) int: number of the phantom in each square of the mosaic
    turns: np.ndarray  #: (N, N) int, 0 to 7: its quarter turns, plus 4 if it is flipped
    hills: np.ndarray  #: (K, K): heights of Gaussian hills that are spread evenly over the slide
    shore: float  #: least height of tissue; lower places are glass

    @classmethod
    def draw(cls, rng: np.random.Generator, side: int, fields: int, tissue: float) -> Layout:
        """Draw a random layout of `side` by `side` squares, with a share `tissue` of tissue."""
        numbers = rng.permutation(np.arange(side**2) % fields).reshape(side, side)
        turns, hills = rng.integers(0, 8, (side, side)), rng.standard_normal((9, 9))
        hills[[0, -1]] = hills[:, [0, -1]] = -1.5  # glass is likelier at the slide's edges
        heights = _heights(hills, 500, 0, 500)
        return cls(numbers, turns, hills, np.quantile(heights, 1 - tissue) if tissue < 1 else -np.inf)

    def mosaic(self, phantoms: np.ndarray, top: int, height: int, width: int) -> np.ndarray:
        """Return rows of the mosaic, (height, width, ...), of phantoms of shape (F, side, side, ...)."""
        side = phantoms.shape[1]
        rows = np.empty((height, width, *phantoms.shape[3:]), phantoms.dtype)
        for square, inside, target in overlapping(Window(top, 0, height, width), side, side):
            place = square.top // side, square.left // side
            flipped, quarters = divmod(self.turns[place], 4)
            turned = np.rot90(phantoms[self.fields[place]], quarters)
            rows[target] = (turned[:, ::-1] if flipped else turned)[inside]
        return rows

    def tissue(self, side: int, top: int, height: int) -> np.ndarray:
        """Return the tissue mask, (height, side) bool, of rows of a slide of `side` px."""
        return _heights(self.hills, side, top, height) >= self.shore


def _heights(hills: np.ndarray, side: int, top: int, height: int) -> np.ndarray:
    centres = np.linspace(0, 1, len(hills))
    share = np.exp(-(((np.arange(side) + 0.5) / side - centres[:, None]) ** 2) * len(hills) ** 2 / 1.3)
    share = np.float32(share / share.sum(0))
    return share[:, top : top + height].T @ np.float32(hills) @ share


def write_slide(path: Path, size: int, mpp: float = 0.25, tissue: float = 0.6, seed: int = 0) -> None:
    """Write a slide as a tiled pyramidal TIFF, and its ground truth as PNG files of class indices beside it.

    The phantoms come from the seeds for tests; some contain glass. The slide is never whole in memory.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``; the ground truth of ``slide.tif`` is ``slide_morph.png`` and ``slide_func.png``, at the
        classifier's 1.2143 mpp.
    size : int
        Side, in px. The ground truth is stretched to whole pixels, by half a pixel at most; see `slide_io.slide`.
    mpp : float
        Microns per pixel; 425 um must be whole pixels.
    tissue : float
        Share of the slide that is tissue, above 0 and at most 1; the rest is glass.
    seed : int
        The same seed gives the same slide.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    field = round(FIELD / mpp) if 0.1 <= mpp <= 2 else 0
    if not field or abs(field * mpp - FIELD) > 1e-6:
        raise InputError(f"mpp {mpp:g}: expected 0.1 to 2 with {FIELD} microns in whole pixels, such as 0.25 or 0.5")
    if size < TILE or not 0 < tissue <= 1 or seed < 0:
        raise InputError(
            f"size {size}, tissue {tissue:g}, seed {seed}: expected at least {TILE} px, a share above 0 and at "
            "most 1, and at least 0"
        )
    rng = np.random.default_rng([SLIDE_STREAM, seed])
    squares = -(-size // field)
    images, labels = _phantoms(rng, min(FIELDS, squares**2), field, mpp)
    layout = Layout.draw(rng, squares, len(images), tissue)
    with replacing(path) as temporary:
        write_pyramid(temporary, _strips(rng, layout, images, size), size, mpp)
        side = round(size * mpp / CLASSIFIER_MPP)
        covered = layout.tissue(side, 0, side)
        for name, maps in labels.items():
            glass = LABEL_SETS[name].codes.index("Background")
            truth = np.where(covered, layout.mosaic(maps, 0, side, side), np.uint8(glass))
            write_picture(path.with_name(f"{path.stem}_{name}.png"), truth)


def _phantoms(rng: np.random.Generator, count: int, field: int, mpp: float) -> tuple[np.ndarray, dict]:
    """Make images, (F, field, field, 3), and label maps, (F, side, side) at the classifier's scale, by label set."""
    jobs = [(int(seed), field, mpp) for seed in rng.choice(phantom.SEEDS["test"], count, replace=False)]
    images, labels = zip(*in_parallel(_phantom, jobs, f"drawing {count} phantoms"), strict=True)
    return np.stack(images), {name: np.stack([maps[name] for maps in labels]) for name in labels[0]}


def _phantom(seed: int, field: int, mpp: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    side = round(FIELD / CLASSIFIER_MPP)
    return phantom.patch(seed, size=(field, field), mpp=mpp).image, phantom.patch(seed, size=(side, side)).labels


def _strips(rng: np.random.Generator, layout: Layout, images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the slide in strips one tile high."""
    from rich.progress import track

    glass = np.clip(rng.normal(247, 2, (TILE, size, 3)), 0, 255).astype(np.uint8)
    for top in track(range(0, size, TILE), "writing the slide"):
        height = min(TILE, size - top)
        tissue = layout.tissue(size, top, height)[..., None]
        yield np.where(tissue, layout.mosaic(images, top, height, size), glass[:height])


def write_pyramid(path: Path, strips: Iterable[np.ndarray], size: int, mpp: float) -> None:
    """Write a square slide, given in RGB strips one tile high, as a tiled pyramidal TIFF with JPEG compression.

    Only the tiles of its smaller levels are in memory, a fifteenth of its pixels.
    """
    import tifffile

    sides = [size]
    while sides[-1] // STEP >= TILE:
        sides.append(sides[-1] // STEP)
    smaller: list[list[np.ndarray]] = [[] for _ in sides[1:]]
    full = pyramid_tiles(strips, smaller, TILE, np.asarray, lambda strip: average(strip, STEP), "edge")
    with tifffile.TiffWriter(path, bigtiff=size > 30_000) as writer:
        for side, tiles in zip(sides, (full, *smaller), strict=True):
            writer.write(
                iter(tiles),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",  # of the given tiles; the file's are YCbCr
                subsampling=(2, 2),
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=int(side < size),
                metadata=None,
                maxworkers=available_cores(),
                **density_tags(mpp * size / side),
            )


def write_outlines(slide: Path, size: int, name: str, share: float | None = None) -> Path:
    """Write a slide's true outlines as ``annotations/SLIDE.geojson`` beside it, in px of full resolution.

    `slide`, of `size` px a side, is one of `write_slide`; `name` is a label set. The background class has outlines,
    too. If only a `share` of the slide counts as annotated, a square of class ``Region*`` marks it, where most classes
    occur, with most of the rarest one.
    """
    background = LABEL_SETS[name].background
    names = LABEL_SETS[name].names | {background: background}
    label_set = replace(LABEL_SETS[name], background=None, names=names)
    labels = read_mask(slide.with_name(f"{slide.stem}_{name}.png"), label_set).labels
    frame, path = Window(0, 0, *labels.shape), slide.parent / "annotations" / f"{slide.stem}.geojson"
    info, scale = LabelMapInfo(*labels.shape, CLASSIFIER_MPP, label_set), size / len(labels)
    with tempfile.TemporaryDirectory() as folder:
        label_map = Path(folder) / "truth.ome.tif"
        write_label_map(label_map, lambda window: labels[window.within(frame)], info)
        write_polygons(path, label_map, info, scale, min_area=0)
    if share:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["features"].append(_region(labels, scale, share))
        write_bytes(path, json.dumps(content, ensure_ascii=False).encode())
    return path


def _region(labels: np.ndarray, scale: float, share: float) -> dict:
    """Return the square of class ``Region*``, a share of a label map; see `write_outlines` for its place."""
    side = round(len(labels) * math.sqrt(share))
    corners = np.linspace(0, len(labels) - side, 9).astype(int).tolist()

    def worth(corner: tuple[int, int]) -> tuple[int, int]:
        part = labels[Window(*corner, side, side).within(Window(0, 0, *labels.shape))]
        counts = np.unique(part, return_counts=True)[1]
        return len(counts), int(counts.min())

    top, left = max(product(corners, corners), key=worth)
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    ring = [[round(x * scale, 2), round(y * scale, 2)] for x, y in corners]
    properties = {"objectType": "annotation", "classification": {"name": "Region*", "color": [0, 0, 180]}}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
