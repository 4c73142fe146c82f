"""A whole slide: the four stages on overlapping tiles, in bounded memory, and resumed where a run was killed.

Tiles are read and classified in batches, here; each batch leaves a file of scores and coarse CAMs. As soon as all
tiles that a window touches are classified, a worker process localises and adjusts each of them, averages the adjusted
maps where tiles overlap (which is how the paper's slides differ from images, whose Grad-CAMs are averaged), refines
the window with the CRF, and writes its core as label maps. Every file is whole or not there, and depends on nothing
but the slide and the settings; so whichever exist need not be made again.
"""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from skimage.morphology import remove_small_objects

from ..classify import ClassifiedTiles, Classifier
from ..densecrf import CRF, image_lattice
from ..files.slides import Slide, open_slide
from ..files.writing import write_bytes, write_picture
from ..hsn_v1 import localise_and_adjust, winners
from ..labels import LabelSet
from ..tiles import TileGrid, Window
from ..workers import available_cores, classifier_threads, side_by_side, worker_pool
from .grid import SlideGrid

THUMBNAIL = 8  #: how many times smaller than the classifier's scale the thumbnail is on which tissue is sought
GLASS = 240  #: mean of R, G and B from which on bare glass is seen: the brightness of `adjust.background_map`
SPECK = 64  #: px of the thumbnail that tissue has at least, next to each other
LEAST_TISSUE = 0.02  #: share of tissue under which a tile is skipped: a classifier makes up what it sees in bare glass


@dataclass(frozen=True)
class SlideJob:
    """What the processes that share a slide's work need to know of it.

    Attributes
    ----------
    source : Path
    mpp : float or None
        Scale of the slide, where the file does not tell.
    grid : SlideGrid
    tissue : ndarray of int
        Numbers of the tiles with tissue, ascending; only these are classified.
    batch_size : int
        Tiles that are classified together. Fixed for each tile: results may differ in the last bits with the batch
        a tile is in.
    label_sets : tuple of LabelSet
    crfs : mapping of str to CRF
        By the label set's name.
    scale : float
        The classifier's, in microns per pixel.
    thresholds : ndarray of shape (K,)
        Score from which on a class is present.
    folder : Path
        Folder of the intermediate files.
    feather : bool
        Tiles count less towards their borders where they overlap, not alike as in the paper.
    """

    source: Path
    mpp: float | None
    grid: SlideGrid
    tissue: np.ndarray
    batch_size: int
    label_sets: tuple[LabelSet, ...]
    crfs: Mapping[str, CRF]
    scale: float
    thresholds: np.ndarray
    folder: Path
    feather: bool = False

    @property
    def batches(self) -> int:
        """Number of batches."""
        return math.ceil(len(self.tissue) / self.batch_size)

    def batch(self, number: int) -> np.ndarray:
        """Return the numbers of the tiles in a batch."""
        return self.tissue[number * self.batch_size :][: self.batch_size]

    def batch_file(self, number: int) -> Path:
        """Return where a batch's scores and coarse CAMs are kept."""
        return self.folder / "tiles" / f"{number:06d}.npz"

    def core_file(self, number: int, label_set: LabelSet) -> Path:
        """Return where the label map of a core is kept."""
        return self.folder / "labels" / label_set.name / f"{number:06d}.png"

    def is_refined(self, number: int) -> bool:
        """Tell whether the label maps of a core exist."""
        return all(self.core_file(number, label_set).exists() for label_set in self.label_sets)

    def window(self, number: int) -> Window:
        """Return the window that a core is refined in: with a margin as wide as the CRF sees."""
        reach = max(crf.reach for crf in self.crfs.values())
        return self.grid.core_window(number).grown(reach).overlap(self.grid.frame)

    def places(self, window: Window) -> np.ndarray:
        """Return the places in `tissue` of the tiles that a window touches."""
        touched = np.fromiter(self.grid.tiles_of(window), int)
        places = np.searchsorted(self.tissue, touched)
        found = places < len(self.tissue)
        found[found] = self.tissue[places[found]] == touched[found]
        return places[found]


def thumbnail(slide: Slide, mpp: float, chunk: int = 128) -> np.ndarray:
    """Read a whole slide at a small scale, a chunk at a time, since it may have no small level.

    Parameters
    ----------
    slide : Slide
    mpp : float
    chunk : int
        Side of what is read at once, in px at `mpp`.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    frame = Window(0, 0, *slide.size(mpp))
    picture = np.empty((frame.height, frame.width, 3), np.uint8)
    for top in range(0, frame.height, chunk):
        for left in range(0, frame.width, chunk):
            part = Window(top, left, chunk, chunk).overlap(frame)
            picture[part.within(frame)] = slide.read(part.top, part.left, part.height, part.width, mpp)
    return picture


def tissue_mask(picture: np.ndarray) -> np.ndarray:
    """Tell tissue from bare glass.

    Where in doubt it is tissue, as what is skipped is lost: the threshold is the one that makes background of a
    pixel in stage 3, and only small specks of what is darker are left out.

    Parameters
    ----------
    picture : ndarray of shape (H, W, 3), uint8

    Returns
    -------
    ndarray of shape (H, W), bool
    """
    dark = picture.mean(axis=-1) < GLASS
    if dark.all() or dark.size < 4 * SPECK:
        return dark
    return remove_small_objects(dark, max_size=SPECK - 1, connectivity=2)


def tiles_with_tissue(grid: SlideGrid, mask: np.ndarray, least: float = LEAST_TISSUE) -> np.ndarray:
    """Return the numbers of the tiles of which at least some share is tissue.

    Parameters
    ----------
    grid : SlideGrid
    mask : ndarray of shape (h, w), bool
        Where there is tissue, at any scale.
    least : float
        Share of the tile, above 0.

    Returns
    -------
    ndarray of int
        Ascending.
    """
    below = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)  # number of pixels above and left
    below[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    scale = mask.shape[0] / grid.height, mask.shape[1] / grid.width

    def has_tissue(number: int) -> bool:
        tile = grid.tile_window(number).overlap(grid.frame)
        top, left = int(tile.top * scale[0]), int(tile.left * scale[1])
        bottom, right = math.ceil(tile.bottom * scale[0]), math.ceil(tile.right * scale[1])
        found = below[bottom, right] - below[top, right] - below[bottom, left] + below[top, left]
        return found >= least * (bottom - top) * (right - left)

    return np.array([number for number in range(math.prod(grid.tiles)) if has_tissue(number)], int)


def segment_tiles(
    job: SlideJob, classifier: Classifier, workers: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Classify the tiles and refine the windows that are left to do.

    Parameters
    ----------
    job : SlideJob
    classifier : Classifier
    workers : int
        Number of worker processes.
    progress : callable
        Called with the numbers of tiles that are classified and of all with tissue.
    """
    waiting: dict[int, list[int]] = {}  # cores by the last batch that they need
    needed = set()
    for core in range(math.prod(job.grid.cores)):
        batches = job.places(job.window(core)) // job.batch_size
        if len(batches) and not job.is_refined(core):
            waiting.setdefault(int(batches[-1]), []).append(core)
            needed.update(batches.tolist())
    missing = {number for number in needed if not job.batch_file(number).exists()}
    with worker_pool(workers, job.folder) as pool, open_slide(job.source, job.mpp) as slide:
        read = read_ahead(lambda number: _read_batch(slide, job, number), sorted(missing))

        def ready_cores() -> Iterator[int]:
            for number in range(job.batches):
                if number in missing:
                    classify_batch(job, number, next(read), classifier)
                progress(min((number + 1) * job.batch_size, len(job.tissue)), len(job.tissue))
                yield from waiting.get(number, ())

        beside = available_cores() - classifier_threads(available_cores())
        refine = partial(pool.submit, refine_core, job)
        for _, refined in side_by_side(ready_cores(), refine, workers, beside, ahead=2 * workers):
            refined.result()


def read_ahead(read: Callable[[int], np.ndarray], numbers: Iterable[int], depth: int = 2) -> Iterator[np.ndarray]:
    """Yield what `read` returns for each number, reading at most `depth` ahead in a thread."""
    with ThreadPoolExecutor(1, "reader") as reader:
        ahead: deque[Future] = deque()
        try:
            for number in numbers:
                ahead.append(reader.submit(read, number))
                if len(ahead) > depth:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _read_batch(slide: Slide, job: SlideJob, number: int) -> np.ndarray:
    tiles = map(job.grid.tile_window, job.batch(number).tolist())
    return np.stack([slide.read(*_numbers(tile), job.scale) for tile in tiles])


def _numbers(window: Window) -> tuple[int, int, int, int]:
    return window.top, window.left, window.height, window.width


def classify_batch(job: SlideJob, number: int, images: np.ndarray, classifier: Classifier) -> None:
    """Write the scores of a batch of tiles, and the coarse CAMs of the classes that any label set localises in it.

    Parameters
    ----------
    job : SlideJob
    number : int
    images : ndarray of shape (T, tile, tile, 3), uint8
    classifier : Classifier
    """
    scores, cams = classifier(images.astype(np.float32))
    needed = scores >= job.thresholds
    for label_set in job.label_sets:
        needed[:, [label_set.outputs_of[code] for code in label_set.always_present]] = True
    outputs = np.flatnonzero(needed.any(axis=0))
    content = io.BytesIO()
    np.savez(content, scores=scores, outputs=outputs, cams=cams[:, outputs])
    write_bytes(job.batch_file(number), content.getvalue())


@lru_cache(maxsize=32)  # windows share tiles with their neighbours; a file that was replaced has another time
def _read_classified(path: Path, modified: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path) as content:
        return content["scores"], content["outputs"], content["cams"]


def _classified_tile(job: SlideJob, place: int) -> ClassifiedTiles:
    number, index = divmod(place, job.batch_size)
    file = job.batch_file(number)
    scores, outputs, cams = _read_classified(file, file.stat().st_mtime_ns)
    coarse = np.zeros((1, scores.shape[1], *cams.shape[2:]), np.float32)
    coarse[0, outputs] = cams[index]
    side = job.grid.tile
    return ClassifiedTiles(TileGrid(side, side, tile=side), scores[index : index + 1], job.thresholds, coarse)


@lru_cache(maxsize=1)
def _opened(source: Path, mpp: float | None, modified: int) -> Slide:
    return open_slide(source, mpp)


def refine_core(job: SlideJob, number: int) -> None:
    """Write the label maps of a core: adjusted maps of its tiles averaged, and refined in a window around it."""
    core, window = job.grid.core_window(number), job.window(number)
    places = job.places(window).tolist()
    tiles = [job.grid.tile_window(job.tissue[place]) for place in places]
    top, left = min(window.top, *(tile.top for tile in tiles)), min(window.left, *(tile.left for tile in tiles))
    bottom, right = (max(getattr(window, end), *(getattr(tile, end) for tile in tiles)) for end in ("bottom", "right"))
    around = Window(top, left, bottom - top, right - left)
    slide = _opened(job.source, job.mpp, job.source.stat().st_mtime_ns)
    image = slide.read(*_numbers(around), job.scale)

    size = window.height, window.width
    maps = {label_set.name: np.zeros((len(label_set), *size), np.float32) for label_set in job.label_sets}
    weights, weight = tile_weights(job.grid, job.feather), np.zeros(size, np.float32)
    for place, tile in zip(places, tiles, strict=True):
        picture = np.ascontiguousarray(image[tile.within(around)])
        shared = tile.overlap(window)
        inside, target = shared.within(tile), shared.within(window)
        for label_set, _, adjusted in localise_and_adjust(picture, _classified_tile(job, place), job.label_sets):
            maps[label_set.name][(..., *target)] += weights[inside] * adjusted[(..., *inside)]
        weight[target] += weights[inside]

    picture = np.ascontiguousarray(image[window.within(around)])
    lattice = cache(partial(image_lattice, picture))
    blank = weight == 0
    for label_set in job.label_sets:
        averaged = maps.pop(label_set.name)
        averaged /= np.where(blank, 1, weight)
        averaged[label_set.codes.index(label_set.background or label_set.other), blank] = 1
        labels = winners(job.crfs[label_set.name](averaged, picture, lattice=lattice))
        labels[blank] = no_tissue(label_set)
        write_picture(job.core_file(number, label_set), labels[core.within(window)])


def tile_weights(grid: SlideGrid, feather: bool) -> np.ndarray:
    """Return how much each pixel of a tile counts where tiles overlap.

    Parameters
    ----------
    grid : SlideGrid
    feather : bool
        Falling linearly towards the borders, over as much as neighbours overlap; else all alike.

    Returns
    -------
    ndarray of shape (tile, tile), float32, above 0 and at most 1
    """
    if not feather:
        return np.ones((grid.tile, grid.tile), np.float32)
    ramp = np.minimum(1, (np.arange(grid.tile) + 0.5) / (grid.tile - grid.step))
    side = np.minimum(ramp, ramp[::-1])
    return np.outer(side, side).astype(np.float32)


def no_tissue(label_set: LabelSet) -> int:
    """Return the label of what is not classified, as it is bare glass: background, or one more than all classes."""
    return label_set.codes.index(label_set.background) if label_set.background else len(label_set)


def label_reader(job: SlideJob, label_set: LabelSet) -> Callable[[int, int, int, int], np.ndarray]:
    """Return a function of top, left, height and width (px) that reads a window of the slide's label map, as uint8."""

    @lru_cache(maxsize=job.grid.cores[1] + 1)  # a row of cores serves several rows of windows
    def core_labels(number: int) -> np.ndarray | None:
        path = job.core_file(number, label_set)
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.exists() else None

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        window, side = Window(top, left, height, width), job.grid.core
        labels = np.full((height, width), no_tissue(label_set), np.uint8)
        for row in range(top // side, -(-window.bottom // side)):
            for column in range(left // side, -(-window.right // side)):
                number = row * job.grid.cores[1] + column
                part, core = core_labels(number), job.grid.core_window(number)
                shared = core.overlap(window)
                if part is not None:
                    labels[shared.within(window)] = part[shared.within(core)]
        return labels

    return read
