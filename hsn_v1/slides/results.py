"""Write the results of a slide or image: label map, outlines, areas and overview of each label set."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from ..io.writing import write_picture
from ..labels import LabelSet
from ..show.figures import captioned, colourise, overview
from ..slide_io.base import overlapping
from ..slide_io.label_maps import LabelMapInfo, read_thumbnail, write_areas, write_label_map
from ..slide_io.ome_zarr import write_ome_zarr
from ..slide_io.polygons import write_polygons
from ..slide_io.slide import Slide
from .job import LabelMaps
from .plan import SlideTask
from .results_folder import IMAGE, MASK, results_of
from .tissue import REDUCTION

OVERVIEW = 800  #: longest side of the overview's picture, in px
NO_TISSUE = 255  #: grey of mask pixels without tissue, as bright as glass


def small_pictures(slide: Slide, mpp: float) -> list[np.ndarray]:
    """Read a slide once, and return it in two sizes, both (h, w, 3) uint8, neither larger than the slide.

    The first picture, for finding tissue, is at `REDUCTION` times the classifier's `mpp`. The second, for the
    overview, has a longest side of `OVERVIEW` px.
    """
    scales = REDUCTION * mpp, slide.mpp * max(slide.height, slide.width) / OVERVIEW
    finest = max(slide.mpp, min(scales))
    picture, pictures = thumbnail(slide, finest), []
    for scale in scales:
        height, width = slide.size(max(finest, scale))
        smaller = picture.shape[0] > height or picture.shape[1] > width
        pictures.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) if smaller else picture)
    return pictures


def thumbnail(slide: Slide, mpp: float, chunk: int = 128) -> np.ndarray:
    """Read a whole slide at a small scale, (H, W, 3) uint8, chunk by chunk, as it may have no small level."""
    frame = slide.frame(mpp)
    picture = np.empty((frame.height, frame.width, 3), np.uint8)
    for part, _, target in overlapping(frame, chunk, chunk):
        picture[target] = slide.read(part.overlap(frame), mpp)
    return picture


def write_results(slide: Slide, task: SlideTask, label_maps: LabelMaps, picture: np.ndarray) -> None:
    """Write the results of each label set, in threads; `picture` is the slide for the overview, (h, w, 3) uint8.

    Progress counts each row of each label set's label map twice: once written, and once read for the polygons.
    """
    label_sets, going_on = task.method.label_sets, True
    rows = dict.fromkeys((label_set.name for label_set in label_sets), 0)
    total = 2 * slide.size(label_maps.mpp)[0] * len(label_sets)

    def write(label_set: LabelSet) -> None:
        def step(done: int) -> None:
            if not going_on:
                raise InterruptedError
            rows[label_set.name] = done
            task.progress("rows", sum(rows.values()), total)

        _write_label_set(slide, task, label_maps, picture, label_set, step)

    with ThreadPoolExecutor(min(task.workers, len(label_sets)), "results") as pool:
        try:
            for written in as_completed([pool.submit(write, label_set) for label_set in label_sets]):
                written.result()
        finally:
            going_on = False  # ends the other threads after Ctrl-C, or on a full disk


def _write_label_set(
    slide: Slide,
    task: SlideTask,
    label_maps: LabelMaps,
    picture: np.ndarray,
    label_set: LabelSet,
    step: Callable[[int], None],
) -> None:
    """Write a label set's label map, polygons, areas and overview, unless they exist; `step` gets the rows done."""
    folder, mpp, caveat = results_of(task.folder) / label_set.name, label_maps.mpp, task.classifier.labels.caveat
    if (folder / "overview.png").exists():  # written last: an earlier, killed run finished this label set
        return
    (height, width), stem = slide.size(mpp), slide.path.stem
    info = LabelMapInfo(height, width, mpp, label_set, f"{stem} {label_set.name}", caveat)
    label_map, outlines = folder / f"{stem}.ome.tif", folder / f"{stem}.geojson"
    counts = write_label_map(label_map, label_maps.readers[label_set.name], info, progress=step)
    scale, least = np.array([slide.width / width, slide.height / height]), task.method.min_area  # to px of the slide
    write_polygons(outlines, label_map, info, scale, least, progress=lambda done: step(height + done))
    write_areas(folder / "areas.csv", counts, info)
    if label_maps.regions:
        label_maps.regions.write_areas(folder / "regions.csv", label_maps.readers[label_set.name], info)
    if task.method.zarr:
        write_ome_zarr(folder / f"{stem}.ome.zarr", label_map, picture, info)
    labels = read_thumbnail(label_map, *picture.shape[:2])
    write_reduced(folder, picture, labels, label_set)
    small = slide.mpp * slide.width / picture.shape[1]
    sheet = overview(picture, labels, label_set, small, slide.path.name, counts)
    write_picture(folder / "overview.png", captioned(sheet, caveat))


def write_reduced(folder: Path, picture: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> None:
    """Write the reduced image and mask that the page shows.

    `picture` is (h, w, 3) uint8; `labels` are (h, w) uint8 class indices, C or more where there is no tissue.
    """
    mask = colourise(labels, label_set)
    mask[labels >= len(label_set)] = NO_TISSUE
    write_picture(folder / IMAGE, picture)
    write_picture(folder / MASK, mask)
