"""Segment an image in memory and at its own scale, as the demos do; a large image block by block."""

from __future__ import annotations

import math

import numpy as np

from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, classify
from ..hsn_v1 import segment
from ..progress import Progress, no_progress
from ..slide_io.slide import Slide
from .job import LabelMaps, SlideGrid, no_tissue
from .plan import Method, SlideTask
from .tissue import TissueMap, paint_blank

WHOLE_PIXELS = 2_000_000  #: largest image that is segmented at once: maps and lattices need about 0.8 GB a megapixel
BLOCK = 1024  #: side of a block of a larger image, in px


def segment_whole(slide: Slide, task: SlideTask, tissue_map: TissueMap) -> LabelMaps:
    """Segment an image as the demos do, at its own scale.

    Pixels that were not scanned, and glass that stage 3 would not recognise, get the label `no_tissue`.
    """
    image, frame, blank = slide.pixels(), slide.frame(slide.mpp), None
    if tissue_map.blank.any():
        image = image.copy()
        blank = paint_blank(image, frame, frame, tissue_map.blank, tissue_map.threshold)
    classifier, method = task.classifier, task.method
    ((_, _, tiles),) = classify([(None, image)], classifier, classifier.mpp / slide.mpp, method.batch_size)
    label_maps = segment_blocks(image, tiles, method, task.workers, task.progress)
    if blank is not None:
        for label_set in method.label_sets:
            label_maps[label_set.name][blank] = no_tissue(label_set)
    readers = {name: lambda window, labels=labels: labels[window.within(frame)] for name, labels in label_maps.items()}
    return LabelMaps(readers, slide.mpp, len(tiles.scores))


def segment_blocks(
    image: np.ndarray,
    tiles: ClassifiedTiles,
    method: Method,
    threads: int,
    progress: Progress = no_progress,
    block: int | None = None,
) -> dict[str, np.ndarray]:
    """Segment an image, (H, W, 3) uint8, whose tiles are classified: at once, or, if it is large, block by block.

    Blocks of `block` px a side have a halo as wide as the CRF and the background map see, so that no seam shows. The
    CRF uses up to `threads` threads. Returns label maps, (H, W) uint8, by label set name.
    """
    height, width = image.shape[:2]
    grid = SlideGrid(height, width, block=block or (BLOCK if height * width > WHOLE_PIXELS else max(height, width)))
    halo = BACKGROUND_REACH + max(crf.reach for crf in method.crfs.values())
    label_maps = {label_set.name: np.empty((height, width), np.uint8) for label_set in method.label_sets}
    for number in range(math.prod(grid.blocks)):
        kept = grid.block_window(number)
        window = kept.grown(halo).overlap(grid.frame)
        part = np.ascontiguousarray(image[window.within(grid.frame)])
        for name, segmented in segment(part, tiles, method.label_sets, method.crfs, threads, window):
            label_maps[name][kept.within(grid.frame)] = segmented.masks["CRF"][kept.within(window)]
        progress("windows", number + 1, math.prod(grid.blocks))
    return label_maps
