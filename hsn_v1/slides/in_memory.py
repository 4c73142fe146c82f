"""An image at its own scale, in memory, as the demos segment it: a large one window by window."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, Classifier, classify
from ..hsn_v1 import segment
from ..progress import Progress
from ..slide_io.slide import Slide
from ..tiles import Window
from .grid import SlideGrid
from .job import no_tissue
from .plan import Method
from .tissue import Survey, paint_blank

WHOLE_PIXELS = 2_000_000  #: largest image that is segmented at once: maps and lattices need about 0.8 GB a megapixel
BLOCK = 1024  #: side of what is kept of the windows of a larger one, in px


def segment_whole(
    slide: Slide, classifier: Classifier, method: Method, found: Survey, threads: int, progress: Progress
) -> tuple[dict[str, Callable[[Window], np.ndarray]], int]:
    """Segment an image as the demos do; return readers of its label maps, and the number of its tiles."""
    image, frame = slide.pixels(), Window(0, 0, slide.height, slide.width)
    blank = None
    if found.blank.any():
        image = image.copy()
        blank = paint_blank(image, frame, frame, found.blank, found.threshold)
    ((_, _, tiles),) = classify([(None, image)], classifier, classifier.mpp / slide.mpp, method.batch_size)
    label_maps = segment_windows(image, tiles, method, threads, progress)
    if blank is not None:
        for label_set in method.label_sets:
            label_maps[label_set.name][blank] = no_tissue(label_set)
    readers = {name: lambda window, labels=labels: labels[window.within(frame)] for name, labels in label_maps.items()}
    return readers, len(tiles.scores)


def segment_windows(
    image: np.ndarray,
    tiles: ClassifiedTiles,
    method: Method,
    threads: int,
    progress: Progress = lambda stage, done, total: None,
    whole: int = WHOLE_PIXELS,
    block: int = BLOCK,
) -> dict[str, np.ndarray]:
    """Segment an image whose tiles are classified: a small one at once, a larger one window by window.

    Windows have a margin as wide as the CRF and the background map see, so that no seam shows.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    tiles : ClassifiedTiles
    method : Method
    threads : int
        Threads that the CRF may use.
    progress : callable
        Called with "windows" and the numbers of those that are done and of all.
    whole : int
        Pixels up to which it is segmented at once.
    block : int
        Side of what is kept of a window, in px.

    Returns
    -------
    dict of str to ndarray of shape (H, W), uint8
        Label maps by the label set's name.
    """
    height, width = image.shape[:2]
    grid = SlideGrid(height, width, block=block if height * width > whole else max(height, width))
    margin = BACKGROUND_REACH + max(crf.reach for crf in method.crfs.values())
    label_maps = {label_set.name: np.empty((height, width), np.uint8) for label_set in method.label_sets}
    for number in range(math.prod(grid.blocks)):
        kept = grid.block_window(number)
        window = kept.grown(margin).overlap(grid.frame)
        part = np.ascontiguousarray(image[window.within(grid.frame)])
        for name, found in segment(part, tiles, method.label_sets, method.crfs, threads, window):
            label_maps[name][kept.within(grid.frame)] = found.masks["CRF"][kept.within(window)]
        progress("windows", number + 1, math.prod(grid.blocks))
    return label_maps
