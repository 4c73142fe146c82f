"""What is written of a segmented slide or image: label map, outlines, areas and overview of each label set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..io.writing import write_picture
from ..labels import LabelSet
from ..progress import Progress
from ..show.caption import captioned
from ..show.figures import colourise, overview
from ..slide_io.label_maps import LabelMapInfo, read_thumbnail, write_areas, write_label_map
from ..slide_io.polygons import write_polygons
from ..slide_io.slide import Slide
from ..tiles import Window
from .job import LabelMaps
from .results_folder import IMAGE, MASK
from .tissue import REDUCTION

OVERVIEW = 800  #: longest side of the overview's picture, in px
NO_TISSUE = 255  #: grey of the mask's pixels without tissue: that of glass


def small_pictures(slide: Slide, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Read a slide once, and return it in two sizes: to find tissue in, and for the overview.

    Parameters
    ----------
    slide : Slide
        Opened.
    mpp : float
        The classifier's scale.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        At `REDUCTION` times the classifier's mpp, or at the slide's own scale if that is coarser.
    ndarray of shape (h, w, 3), uint8
        Whose longest side is `OVERVIEW` px, or the slide's if that is shorter.
    """
    scales = REDUCTION * mpp, slide.mpp * max(slide.height, slide.width) / OVERVIEW
    finest = max(slide.mpp, min(scales))
    picture = thumbnail(slide, finest)
    return tuple(shrunk(picture, *slide.size(max(finest, scale))) for scale in scales)


def shrunk(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reduce a picture to a size by averaging; it stays as it is if it has that size or a smaller one."""
    if picture.shape[0] <= height and picture.shape[1] <= width:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


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


def write_reduced(folder: Path, thumbnail: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> None:
    """Write what the page shows of an input: its image, and its mask in the label set's colours.

    Parameters
    ----------
    folder : Path
        The label set's.
    thumbnail : ndarray of shape (h, w, 3), uint8
    labels : ndarray of shape (h, w), uint8
        Class indices; C where there is no tissue.
    label_set : LabelSet
    """
    mask = colourise(labels, label_set)
    mask[labels >= len(label_set)] = NO_TISSUE
    write_picture(folder / IMAGE, thumbnail)
    write_picture(folder / MASK, mask)


@dataclass(frozen=True)
class Results:
    """A slide's label maps, and all that is written with them.

    Attributes
    ----------
    folder : Path
        Gets a folder for each label set.
    slide : Slide
        Opened.
    label_maps : LabelMaps
    picture : ndarray of shape (h, w, 3), uint8
        The whole slide, as the overview shows it.
    min_area : float
        Area under which a polygon is left out, in square microns.
    caveat : str
        What everyone who sees the results must know.
    """

    folder: Path
    slide: Slide
    label_maps: LabelMaps
    picture: np.ndarray
    min_area: float
    caveat: str

    @property
    def rows(self) -> int:
        """Number of rows of a label map, to write and to read again."""
        return 2 * self.slide.size(self.label_maps.mpp)[0]

    def write(self, label_set: LabelSet, step: Callable[[int], None]) -> None:
        """Write a label set's label map, polygons, areas and overview, unless they are there.

        Parameters
        ----------
        label_set : LabelSet
        step : callable
            Called with the number of rows that are done.
        """
        folder, slide, mpp, caveat = self.folder / label_set.name, self.slide, self.label_maps.mpp, self.caveat
        if (folder / "overview.png").exists():  # the last to be written, before the run was killed
            return
        (height, width), stem = slide.size(mpp), slide.path.stem
        info = LabelMapInfo(height, width, mpp, label_set, f"{stem} {label_set.name}", caveat)
        label_map, outlines = folder / f"{stem}.ome.tif", folder / f"{stem}.geojson"
        counts = write_label_map(label_map, self.label_maps.readers[label_set.name], info, progress=step)
        scale = np.array([slide.width / width, slide.height / height])  # to whole pixels of the slide
        write_polygons(outlines, label_map, info, scale, self.min_area, progress=lambda rows: step(height + rows))
        write_areas(folder / "areas.csv", counts, info)
        labels = read_thumbnail(label_map, *self.picture.shape[:2])
        write_reduced(folder, self.picture, labels, label_set)
        small = slide.mpp * slide.width / self.picture.shape[1]
        sheet = overview(self.picture, labels, label_set, small, slide.path.name, counts)
        write_picture(folder / "overview.png", captioned(sheet, caveat))


def write_results(results: Results, label_sets: Sequence[LabelSet], threads: int, progress: Progress) -> None:
    """Write the results of several label sets, each in one of the threads.

    Parameters
    ----------
    results : Results
    label_sets : sequence of LabelSet
    threads : int
        Threads to write with.
    progress : callable
        Called with the numbers of rows that are written and read, and of those to write and to read, of all label sets.
    """
    rows, total, going_on = {label_set.name: 0 for label_set in label_sets}, results.rows * len(label_sets), True

    def write(label_set: LabelSet) -> None:
        def step(done: int) -> None:
            if not going_on:
                raise InterruptedError
            rows[label_set.name] = done
            progress("rows", sum(rows.values()), total)

        results.write(label_set, step)

    with ThreadPoolExecutor(min(threads, len(label_sets)), "results") as pool:
        try:
            for written in as_completed([pool.submit(write, label_set) for label_set in label_sets]):
                written.result()
        finally:
            going_on = False  # Ctrl-C, or a full disk
