"""Segment a whole slide: the four stages on overlapping tiles, in bounded memory, resumed after a kill.

The main process reads and classifies tiles in batches; each batch leaves a file of scores and coarse CAMs. Once all
tiles that a window touches are classified, a worker process gets the window's pixels. It localises each tile, averages
maps where tiles overlap, refines the window with the CRF, and writes its block as label maps. As in the paper, maps are
adjusted before they are averaged; optionally afterwards, as for images. Every file is either whole or absent, and
depends on nothing but the slide and the settings. So a resumed run makes only the missing files.
"""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache, lru_cache, partial
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, Classifier, normalise_stain, stain_statistics
from ..densecrf import image_lattice, load_compiled
from ..gradcam import localise
from ..hsn_v1 import adjust_each, localise_and_adjust, winners
from ..io.writing import write_bytes, write_picture
from ..keras_start import outside_garbage_collection
from ..labels import LabelSet
from ..parallel import classifier_threads, side_by_side, worker_pool
from ..progress import Progress, no_progress
from ..tiles import TileGrid, Window
from .job import LabelMaps, SlideGrid, SlideJob, label_reader, no_tissue, read_batch, read_block
from .results_folder import describe_work, work_of
from .tissue import paint_blank

if TYPE_CHECKING:
    from ..slide_io.slide import Slide
    from .plan import Plan, SlideTask
    from .tissue import TissueMap

STAIN_TILES = 16  #: number of a slide's tiles in which its stain is measured


def warm_up(crf: bool) -> None:
    """Prepare a worker for refining windows, and load the compiled CRF if `crf`; see `parallel.start_workers`."""
    cv2.setNumThreads(1)  # there is a process for each core
    if crf:
        with outside_garbage_collection():
            load_compiled()


def segment_by_tiles(slide: Slide, task: SlideTask, plan: Plan, tissue_map: TissueMap) -> LabelMaps:
    """Segment a slide at the classifier's scale, or resume a run that was killed.

    Only tiles with tissue are classified. Glass that stage 3 would not recognise, and parts that were not scanned, are
    painted white.
    """
    classifier, method = task.classifier, task.method
    grid = SlideGrid(*slide.size(classifier.mpp), classifier.tile, stride=classifier.labels.views.stride)
    job = SlideJob(
        grid=grid,
        tissue=tissue_map.tiles(grid),
        batch_size=method.batch_size,
        label_sets=method.label_sets,
        crfs=method.crfs,
        scale=classifier.mpp,
        thresholds=classifier.thresholds,
        folder=work_of(task.folder),
        maps=plan.maps,
        glass=tissue_map.threshold,
    )
    if tissue_map.blank.any():
        write_picture(job.blank_file, tissue_map.blank)
    if classifier.labels.stain and len(job.tissue):
        job = replace(job, stain=classifier.labels.stain, stain_statistics=slide_statistics(slide, job))
    describe_work(task.folder, {"windows": sum(map(job.has_tissue, range(math.prod(grid.blocks))))})
    segment_tiles(job, slide, classifier, task.workers, task.progress)
    readers = {label_set.name: label_reader(job, label_set) for label_set in method.label_sets}
    return LabelMaps(readers, classifier.mpp, len(job.tissue))


def slide_statistics(slide: Slide, job: SlideJob) -> np.ndarray:
    """Return the statistics of a slide's stain, from tiles spread evenly over its tissue; see `stain_statistics`."""
    tiles = job.tissue[:: -(-len(job.tissue) // STAIN_TILES)].tolist()
    return stain_statistics(np.concatenate([_read(slide, job, job.grid.tile_window(tile))[0] for tile in tiles]))


def segment_tiles(
    job: SlideJob,
    slide: Slide,
    classifier: Classifier,
    workers: int,
    progress: Progress = no_progress,
) -> None:
    """Classify the missing tiles and refine the missing windows; progress counts tiles, then windows."""
    waiting: dict[int, list[int]] = {}  # blocks by the last batch that they need
    needed, blocks = set(), [block for block in range(math.prod(job.grid.blocks)) if job.has_tissue(block)]
    for block in blocks:
        if not job.is_refined(block):
            batches = job.positions(job.with_halo(block)) // job.batch_size
            waiting.setdefault(int(batches.max()), []).append(block)
            needed.update(batches.tolist())
    missing = {number for number in needed if not job.is_classified(number)}
    left, total = sum(len(job.batch(number)) for number in missing), len(job.tissue)
    if total:
        progress("tiles", total - left, total)
    # A daemonic process, such as a Dask worker, may not start processes: it refines in threads.
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
                    yield block, reader.submit(_read, slide, job, job.with_halo(block).grown(BACKGROUND_REACH))

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
    """Yield the result of `read` for each number, reading at most `depth` ahead."""
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
    tiles = np.stack([_read(slide, job, job.grid.tile_window(tile))[0] for tile in job.batch(number).tolist()])
    if job.stain is None:
        return tiles
    return np.stack([normalise_stain(tile, job.stain_statistics, job.stain) for tile in tiles])


def _read(slide: Slide, job: SlideJob, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Read a window at the classifier's scale, and paint blank parts white; return it and a mask of these parts."""
    image, file = slide.read(window, job.scale), job.blank_file
    if not file.exists():
        return image, np.zeros(image.shape[:2], bool)
    return image, paint_blank(image, window, job.grid.frame, _read_once(read_block, file), job.glass)


def _read_once(read: Callable[[Path], Any], path: Path) -> Any:
    """Read a file, unless it was just read: neighbouring windows share tiles, and all windows share `blank_file`."""
    return _read_as_of(read, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _read_as_of(read: Callable[[Path], Any], path: Path, modified: int) -> Any:
    return read(path)


def classify_batch(job: SlideJob, number: int, images: np.ndarray, classifier: Classifier) -> None:
    """Write the scores of a batch of tiles, and the coarse CAMs of all classes that a label set localises in it."""
    scores, cams = classifier(images.astype(np.float32))  # (T, tile, tile, 3) -> (T, K), (T, K, h, w)
    needed = scores >= job.thresholds
    for label_set in job.label_sets:
        needed[:, [label_set.outputs_of[code] for code in label_set.always_present]] = True
    outputs = np.flatnonzero(needed.any(axis=0))
    content = io.BytesIO()
    np.savez(content, scores=scores, outputs=outputs, cams=cams[:, outputs])
    write_bytes(job.batch_file(number), content.getvalue())


def _classified_tile(job: SlideJob, position: int) -> ClassifiedTiles:
    number, index = divmod(position, job.batch_size)
    scores, outputs, cams = _read_once(read_batch, job.batch_file(number))
    coarse = np.zeros((1, scores.shape[1], *cams.shape[2:]), np.float32)
    coarse[0, outputs] = cams[index]
    side = job.grid.tile
    return ClassifiedTiles(TileGrid(side, side, tile=side), scores[index : index + 1], job.thresholds, coarse)


def refine_block(job: SlideJob, number: int, image: np.ndarray, white: np.ndarray) -> None:
    """Write the label maps of a block: average the maps of its tiles, and refine them in a window around the block.

    `image`, (h, w, 3) uint8, shows the window, and the pixels around it that its background map needs. `white`,
    (h, w) bool, is the mask of its blank pixels.
    """
    block, kept, window = job.grid.block_window(number), job.covered(number), job.with_halo(number)
    around = window.grown(BACKGROUND_REACH)
    tiles = {position: job.grid.tile_window(job.order[position]) for position in job.positions(window).tolist()}
    picture = np.ascontiguousarray(image[window.within(around)])

    maps, times = _averaged_maps(job, tiles, image, window)  # of each label set, (C, H, W)
    covered = times > 0
    lattice = cache(partial(image_lattice, picture))
    blank = ~covered | white[window.within(around)]
    for label_set in job.label_sets:
        averaged = maps.pop(label_set.name)
        if stand_in := label_set.background or label_set.other:  # without either, all classes are equally likely there
            averaged[label_set.codes.index(stand_in), ~covered] = 1
        refined = winners(job.crfs[label_set.name](averaged, picture, lattice=lattice))
        refined[blank] = no_tissue(label_set)
        labels = np.full((block.height, block.width), no_tissue(label_set), np.uint8)
        labels[kept.within(block)] = refined[kept.within(window)]
        write_picture(job.block_file(number, label_set), labels)


def _averaged_maps(
    job: SlideJob, tiles: Mapping[int, Window], image: np.ndarray, window: Window
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each label set's adjusted maps, averaged over the tiles in a window, and the number of tiles per pixel."""
    around, times = window.grown(BACKGROUND_REACH), np.zeros((window.height, window.width), np.float32)
    for tile in tiles.values():
        times[tile.overlap(window).within(window)] += 1

    def picture_of(part: Window) -> np.ndarray:
        return np.ascontiguousarray(image[part.within(around)])

    def empty(label_set: LabelSet) -> np.ndarray:
        return np.zeros((len(label_set), *times.shape), np.float32)

    def divided(total: np.ndarray) -> np.ndarray:
        for maps in total:
            if maps.any():  # most maps are empty: do not even allocate their memory
                maps /= np.maximum(times, 1)
        return total

    if job.maps == "gradcam":

        def average_cams(label_set: LabelSet) -> np.ndarray:
            total = empty(label_set)
            for position, tile in tiles.items():
                part = around.overlap(tile)
                cams = localise(_classified_tile(job, position), label_set, part.relative_to(tile))
                add_tile(total, cams, part, window)
            return divided(total)

        adjusted = adjust_each(picture_of(window), job.label_sets, average_cams)
        return {label_set.name: maps for label_set, _, maps in adjusted}, times
    totals = {label_set.name: empty(label_set) for label_set in job.label_sets}
    for position, tile in tiles.items():
        part, classified = around.overlap(tile), _classified_tile(job, position)
        adjusted = localise_and_adjust(picture_of(part), classified, job.label_sets, part.relative_to(tile))
        for label_set, _, maps in adjusted:
            add_tile(totals[label_set.name], maps, part, window)
    return {name: divided(total) for name, total in totals.items()}, times


def add_tile(total: np.ndarray, maps: np.ndarray, tile: Window, window: Window) -> None:
    """Add the maps of a tile or a part of it, (C, h, w), to the maps of a window, (C, H, W), where they overlap."""
    shared = tile.overlap(window)
    for c in np.flatnonzero(maps.max(axis=(1, 2))):  # most maps are empty
        total[(c, *shared.within(window))] += maps[(c, *shared.within(tile))]
