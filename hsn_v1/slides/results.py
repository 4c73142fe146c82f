"""What is written of a segmented slide or image: label map, outlines, areas and an overview of each label set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..io.writing import write_picture
from ..labels import LabelSet
from ..progress import Progress
from ..show.caption import captioned
from ..show.figures import overview
from ..slide_io.label_maps import read_thumbnail, write_areas, write_label_map
from ..slide_io.polygons import write_polygons
from ..slide_io.slide import Slide
from ..tiles import Window
from .index_page import write_reduced
from .tiled import thumbnail
from .tissue import REDUCTION

OVERVIEW = 800  #: longest side of the overview's picture, in px


def small_picture(slide: Slide, mpp: float) -> tuple[np.ndarray, float]:
    """Read a slide once, as small as suffices to find tissue and to draw an overview; return it and its mpp.

    Parameters
    ----------
    slide : Slide
    mpp : float
        The classifier's scale.
    """
    longest = max(slide.height, slide.width)
    small = max(slide.mpp, min(REDUCTION * mpp, slide.mpp * longest / OVERVIEW))
    return thumbnail(slide, small), small


def shrunk(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reduce a picture to a size by averaging; it stays as it is if it has that size or a smaller one."""
    if picture.shape[0] <= height and picture.shape[1] <= width:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Results:
    """Where and how a label set's results are written.

    Attributes
    ----------
    folder : Path
        Gets a folder with the label set's name.
    slide : Slide
    mpp : float
        Scale of the label map, in microns per pixel.
    picture : ndarray of shape (h, w, 3), uint8
        The whole slide, as the overview shows it.
    caveat : str
        What everyone who sees the results must know.
    label_set : LabelSet
    """

    folder: Path
    slide: Slide
    mpp: float
    picture: np.ndarray
    caveat: str
    label_set: LabelSet

    @property
    def rows(self) -> int:
        """Number of rows to write and to read again."""
        return 2 * self.slide.size(self.mpp)[0]

    def write(self, read: Callable[[Window], np.ndarray], min_area: float, step: Callable[[int], None]) -> None:
        """Write a label set's label map, polygons, areas and overview, unless they are there.

        Parameters
        ----------
        read : callable
            Gives a window of the label map, as uint8.
        min_area : float
            Area under which a polygon is left out, in square microns.
        step : callable
            Called with the number of rows that are done.
        """
        label_set, folder, stem = self.label_set, self.folder / self.label_set.name, self.slide.path.stem
        if (folder / "overview.png").exists():  # the last to be written, before the run was killed
            return
        height, width = self.slide.size(self.mpp)
        label_map, names = folder / f"{stem}.ome.tif", list(map(label_set.describe, label_set.codes))
        title = f"{stem} {label_set.name}"
        counts = write_label_map(
            label_map, read, height, width, self.mpp, names, title, caveat=self.caveat, progress=step
        )
        scale = np.array([self.slide.width / width, self.slide.height / height])  # to whole pixels of the slide
        write_polygons(
            folder / f"{stem}.geojson",
            label_map,
            label_set,
            scale,
            self.mpp,
            min_area,
            caveat=self.caveat,
            progress=lambda rows: step(height + rows),
        )
        write_areas(folder / "areas.csv", counts, self.mpp, label_set, self.caveat)
        labels = read_thumbnail(label_map, *self.picture.shape[:2])
        small = self.slide.mpp * self.slide.width / self.picture.shape[1]
        write_reduced(folder, self.picture, labels, label_set)
        sheet = overview(self.picture, labels, label_set, small, self.slide.path.name, counts)
        write_picture(folder / "overview.png", captioned(sheet, self.caveat))


def write_side_by_side(
    each: Sequence[Results],
    readers: Mapping[str, Callable[[Window], np.ndarray]],
    min_area: float,
    threads: int,
    progress: Progress,
) -> None:
    """Write the results of several label sets, each in one of the threads.

    Parameters
    ----------
    each : sequence of Results
    readers : mapping of str to callable
        By the label set's name, what gives a window of the label map, as uint8.
    min_area : float
        See `Results.write`.
    threads : int
    progress : callable
        Called with the numbers of rows that are written and read, and of those to write and to read, of all label sets.
    """
    rows, going_on = dict.fromkeys(readers, 0), True

    def write(one: Results) -> None:
        def step(done: int) -> None:
            if not going_on:
                raise InterruptedError
            rows[one.label_set.name] = done
            progress("rows", sum(rows.values()), sum(other.rows for other in each))

        one.write(readers[one.label_set.name], min_area, step)

    with ThreadPoolExecutor(min(threads, len(each)), "results") as pool:
        try:
            for written in as_completed([pool.submit(write, one) for one in each]):
                written.result()
        finally:
            going_on = False  # Ctrl-C, or a full disk
