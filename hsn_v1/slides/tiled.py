"""A whole slide: the four stages on overlapping tiles, in bounded memory, and resumed where a run was killed.

Tiles are read and classified in batches, here; each batch leaves a file of scores and coarse CAMs. As soon as all
tiles that a window touches are classified, a worker process gets the window's pixels, localises each tile, averages
maps where tiles overlap, refines the window with the CRF, and writes its block as label maps. As in the paper, maps are
adjusted before they are averaged; by option after it, as those of images are. Every file is whole or not there, and
depends on nothing but the slide and the settings; so whichever exist need not be made again.
"""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cache, lru_cache, partial
from itertools import chain
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, Classifier
from ..densecrf import image_lattice, load_compiled
from ..gradcam import localise
from ..hsn_v1 import adjust_each, localise_and_adjust, winners
from ..io.writing import write_bytes, write_picture
from ..labels import LabelSet
from ..parallel import classifier_threads, outside_garbage_collection, side_by_side, worker_pool
from ..progress import Progress
from ..tiles import TileGrid, Window
from .grid import SlideGrid
from .job import SlideJob, no_tissue, read_batch
from .tissue import paint_blank

if TYPE_CHECKING:
    from ..slide_io.slide import Slide


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
            picture[part.within(frame)] = slide.read(part, mpp)
    return picture


def warm_up(crf: bool) -> None:
    """Load what refines windows, in a worker; see `workers.start_workers`."""
    cv2.setNumThreads(1)  # there is a process for each core
    if crf:
        with outside_garbage_collection():
            load_compiled()


def segment_tiles(
    job: SlideJob,
    slide: Slide,
    classifier: Classifier,
    workers: int,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Classify the tiles and refine the windows that are left to do.

    Parameters
    ----------
    job : SlideJob
    slide : Slide
    classifier : Classifier
    workers : int
        Number of worker processes.
    progress : callable
        Called with the numbers of tiles that are classified and of all with tissue, then with those of windows.
    """
    waiting: dict[int, list[int]] = {}  # blocks by the last batch that they need
    needed, blocks = set(), [block for block in range(math.prod(job.grid.blocks)) if job.has_tissue(block)]
    for block in blocks:
        if not job.is_refined(block):
            batches = job.places(job.window(block)) // job.batch_size
            waiting.setdefault(int(batches.max()), []).append(block)
            needed.update(batches.tolist())
    missing = {number for number in needed if not job.is_classified(number)}
    left, total = sum(len(job.batch(number)) for number in missing), len(job.tissue)
    if total:
        progress("tiles", total - left, total)
    # A daemonic process, such as a worker of Dask's, may not start processes: threads do their work there.
    daemonic = current_process().daemon
    refiners = ThreadPoolExecutor(workers, "refiner") if daemonic else worker_pool(workers, job.folder)
    with refiners as pool, ThreadPoolExecutor(1, "reader") as reader:
        read = read_ahead(reader, lambda number: _read_batch(slide, job, number), sorted(missing))

        def ready_blocks() -> Iterator[tuple[int, Future]]:
            nonlocal left
            for number in range(job.batches):
                if number in missing:
                    classify_batch(job, number, next(read), classifier)
                    left -= len(job.batch(number))
                    progress("tiles", total - left, total)
                for block in waiting.get(number, ()):
                    yield block, reader.submit(_read, slide, job, job.window(block).grown(BACKGROUND_REACH))

        def refine(ready: tuple[int, Future]) -> Future:
            block, pixels = ready
            return pool.submit(refine_block, job, block, *pixels.result())

        beside = workers - classifier_threads(workers)
        done = len(blocks) - sum(map(len, waiting.values()))
        for _, refined in side_by_side(ready_blocks(), refine, workers, beside, ahead=2 * workers):
            refined.result()
            done += 1
            if not left:
                progress("windows", done, len(blocks))


def read_ahead(
    reader: Executor, read: Callable[[int], np.ndarray], numbers: Iterable[int], depth: int = 2
) -> Iterator[np.ndarray]:
    """Yield what `read` returns for each number, reading at most `depth` ahead."""
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
    return np.stack([_read(slide, job, job.grid.tile_window(tile))[0] for tile in job.batch(number).tolist()])


def _read(slide: Slide, job: SlideJob, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Read a window at the classifier's scale, with what is blank painted white, and tell where that is."""
    image, file = slide.read(window, job.scale), job.blank_file
    if not file.exists():
        return image, np.zeros(image.shape[:2], bool)
    return image, paint_blank(image, window, job.grid.frame, _blank(file, file.stat().st_mtime_ns), job.glass)


@lru_cache(maxsize=1)
def _blank(path: Path, modified: int) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(bool)


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
def _read_batch_once(path: Path, modified: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return read_batch(path)


def _classified_tile(job: SlideJob, place: int) -> ClassifiedTiles:
    number, index = divmod(place, job.batch_size)
    file = job.batch_file(number)
    scores, outputs, cams = _read_batch_once(file, file.stat().st_mtime_ns)
    coarse = np.zeros((1, scores.shape[1], *cams.shape[2:]), np.float32)
    coarse[0, outputs] = cams[index]
    side = job.grid.tile
    return ClassifiedTiles(TileGrid(side, side, tile=side), scores[index : index + 1], job.thresholds, coarse)


def refine_block(job: SlideJob, number: int, image: np.ndarray, white: np.ndarray) -> None:
    """Write the label maps of a block: maps of its tiles averaged, and refined in a window around them.

    Parameters
    ----------
    job : SlideJob
    number : int
    image : ndarray of shape (h, w, 3), uint8
        The pixels of the window, and those that matter to its background map.
    white : ndarray of shape (h, w), bool
        Where these are blank.
    """
    block, kept, window = job.grid.block_window(number), job.covered(number), job.window(number)
    around = window.grown(BACKGROUND_REACH)
    tiles = {place: job.grid.tile_window(job.order[place]) for place in job.places(window).tolist()}
    picture = np.ascontiguousarray(image[window.within(around)])

    covered = np.zeros(picture.shape[:2], bool)
    for tile in tiles.values():
        covered[tile.overlap(window).within(window)] = True
    maps = _averaged_maps(job, tiles, image, around, window)  # of each label set, (C, H, W)
    lattice = cache(partial(image_lattice, picture))
    blank = ~covered | white[window.within(around)]
    for label_set in job.label_sets:
        averaged = maps.pop(label_set.name)
        averaged[label_set.codes.index(label_set.background or label_set.other), ~covered] = 1
        refined = winners(job.crfs[label_set.name](averaged, picture, lattice=lattice))
        refined[blank] = no_tissue(label_set)
        labels = np.full((block.height, block.width), no_tissue(label_set), np.uint8)
        labels[kept.within(block)] = refined[kept.within(window)]
        write_picture(job.block_file(number, label_set), labels)


def _averaged_maps(
    job: SlideJob, tiles: Mapping[int, Window], image: np.ndarray, around: Window, window: Window
) -> dict[str, np.ndarray]:
    """Return the adjusted maps of each label set in a window, averaged before or after the adjustment."""
    weights, seen = tile_weights(job.grid, job.feather), {place: around.overlap(tile) for place, tile in tiles.items()}
    weight = np.zeros((1, window.height, window.width), np.float32)
    for tile in tiles.values():
        add_tile(weight, weights[np.newaxis], tile, window)
    weight[weight == 0] = 1

    def blank(label_set: LabelSet) -> np.ndarray:
        return np.zeros((len(label_set), window.height, window.width), np.float32)

    if job.maps == "gradcam":

        def average_cams(label_set: LabelSet) -> np.ndarray:
            total = blank(label_set)
            for place, tile in tiles.items():
                cams = localise(_classified_tile(job, place), label_set, seen[place].relative_to(tile))
                cams *= weights[seen[place].within(tile)]
                add_tile(total, cams, seen[place], window)
            return total / weight

        picture = np.ascontiguousarray(image[window.within(around)])
        return {label_set.name: maps for label_set, _, maps in adjust_each(picture, job.label_sets, average_cams)}
    totals = {label_set.name: blank(label_set) for label_set in job.label_sets}
    for place, tile in tiles.items():
        part, picture = seen[place], np.ascontiguousarray(image[seen[place].within(around)])
        classified = _classified_tile(job, place)
        for label_set, _, adjusted in localise_and_adjust(picture, classified, job.label_sets, part.relative_to(tile)):
            adjusted *= weights[part.within(tile)]
            add_tile(totals[label_set.name], adjusted, part, window)
    for each in chain.from_iterable(totals.values()):
        if each.any():  # most classes have no mass, and their memory need not even be there
            each /= weight[0]
    return totals


def add_tile(total: np.ndarray, maps: np.ndarray, tile: Window, window: Window) -> None:
    """Add the maps, (C, h, w), of a tile or a part of it to those of a window, (C, H, W), where they overlap."""
    shared = tile.overlap(window)
    for c in np.flatnonzero(maps.max(axis=(1, 2))):  # most classes have no mass
        total[(c, *shared.within(window))] += maps[(c, *shared.within(tile))]


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
