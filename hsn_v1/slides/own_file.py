"""An image or slide of the user's own: segmented at whatever scale it has, and written to a folder of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, Classifier, classify
from ..densecrf import CRF
from ..files.label_maps import read_thumbnail, write_areas, write_label_map
from ..files.polygons import write_polygons
from ..files.records import label_set_of, record_of_label_set
from ..files.slide import Slide, open_slide
from ..files.writing import write_picture
from ..hsn_v1 import segment
from ..labels import LabelSet
from ..show.caption import captioned
from ..show.figures import overview
from ..tiles import Window
from ..workers import available_cores
from .grid import SlideGrid
from .page import write_reduced
from .progress import Report
from .record import claim, finish, give_up, results_of
from .tissue import REDUCTION, Survey, paint_blank, survey, survey_notes, tiles_with_tissue
from .whole_slide import SlideJob, label_reader, no_tissue, segment_tiles, thumbnail

OVERVIEW = 800  #: longest side of the overview's picture, in px
WHOLE_PIXELS = 2_000_000  #: largest image that is segmented at once: maps and lattices need about 0.8 GB a megapixel
CORE = 1024  #: side of what is kept of the windows of a larger one, in px
OWN_SCALE_PIXELS = 64_000_000  #: largest image that is segmented at its own scale, as its label maps are in memory
FEW_TILES = 16  #: tiles up to which Grad-CAMs are averaged; see docs/slides.md for what was measured

#: Which maps are averaged where tiles overlap: see `plan_for`.
MAPS = ("auto", "adjusted", "gradcam")


@dataclass(frozen=True)
class Method:
    """How classified tiles become labels, and what of these is written: the same for every input.

    Attributes
    ----------
    label_sets : tuple of LabelSet
    crfs : mapping of str to CRF
        By the label set's name.
    batch_size : int
        Number of tiles that the classifier takes at once.
    min_area : float
        Area under which a polygon is left out, in square microns.
    feather : bool
        A slide's tiles count less towards their borders where they overlap, not alike as in the paper.
    maps : str
        One of `MAPS`.
    """

    label_sets: tuple[LabelSet, ...]
    crfs: Mapping[str, CRF]
    batch_size: int = 8
    min_area: float = 100.0
    feather: bool = False
    maps: str = "auto"


@dataclass(frozen=True)
class Plan:
    """How an input is segmented, whatever its file's format.

    Attributes
    ----------
    kind : {"image", "slide"}
        In memory and at its own scale, as the demos do; or tile by tile at the classifier's scale.
    maps : {"adjusted", "gradcam"}
        Which maps are averaged where tiles overlap.
    tiles : int
        Number of tiles that cover it.
    """

    kind: str
    maps: str
    tiles: int


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes
    ----------
    source, folder : Path
        What was segmented, and where its results are.
    status : {"done", "done before", "failed"}
    reason : str
        Why it failed.
    facts : mapping
        Kind and maps (see `Plan`), height and width in px and mpp at full resolution, tiles classified, seconds.
    notes : tuple of str
        What the user should know.
    caveat : str
        What everyone who sees the results must know.
    label_sets : tuple of LabelSet
        Those that there are results of, as far as looking at them needs it.
    """

    source: Path
    folder: Path
    status: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    caveat: str = ""
    label_sets: tuple[LabelSet, ...] = ()

    @classmethod
    def of_record(cls, folder: Path, record: Mapping[str, Any], status: str) -> Outcome:
        """Return the outcome that a folder's record states."""
        return cls(
            Path(record.get("source", record.get("input", folder.name))),
            folder,
            status,
            facts=record.get("facts", {}),
            notes=tuple(record.get("notes", ())),
            caveat=record.get("caveat", ""),
            label_sets=tuple(label_set_of(name, entry) for name, entry in record.get("classes", {}).items()),
        )


def plan_for(slide: Slide, classifier: Classifier, method: Method) -> Plan:
    """Decide how an input is segmented: by its size alone, so that the same pixels give the same in any format."""
    height, width = slide.size(classifier.mpp)
    tiles = math.prod(SlideGrid(height, width, classifier.tile).tiles)
    maps = method.maps if method.maps != "auto" else "gradcam" if tiles <= FEW_TILES else "adjusted"
    whole = maps == "gradcam" and slide.height * slide.width <= OWN_SCALE_PIXELS
    return Plan("image" if whole else "slide", maps, tiles)


def segment_slide(
    path: Path | str,
    classifier: Classifier,
    method: Method,
    out: Path | str,
    *,
    mpp: float | None = None,
    override: bool = False,
    **options: Any,
) -> Outcome:
    """Segment a slide or an image of any size; write label maps, polygons, areas and an overview of each label set.

    Killed at any moment, the same call goes on where it was.

    Parameters
    ----------
    path : Path or str
    classifier : Classifier
    method : Method
    out : Path or str
        Folder that gets a folder with the file's name.
    mpp : float, optional
        Microns per pixel at full resolution, where the file does not state it.
    override : bool
        `mpp` counts whatever the file states.
    **options
        Those of `segment_opened`.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the slide cannot be read, results cannot be written, or the folder has results of another input or method.
    """
    with open_slide(path, mpp, override) as slide:
        return segment_opened(slide, classifier, method, Path(out), **options)


def segment_opened(
    slide: Slide,
    classifier: Classifier,
    method: Method,
    out: Path,
    *,
    workers: int | None = None,
    force: bool = False,
    offset: int = 0,
    progress: Report = lambda stage, done, total: None,
) -> Outcome:
    """Do what `segment_slide` does, with a slide that is open.

    Parameters
    ----------
    slide : Slide
    classifier, method, out
        See `segment_slide`.
    workers : int, optional
        Number of worker processes, or, of an image, of threads; one for each core, if left out.
    force : bool
        Begin anew, and replace results that are there.
    offset : int
        By how many px at the classifier's scale a slide's tiles begin above and left of it.
    progress : callable
        See `progress.Report`.
    """
    began, folder = time.monotonic(), out / slide.path.name
    plan, caveat = plan_for(slide, classifier, method), classifier.labels.caveat
    run = identity(slide, classifier, method, plan) | {"offset": offset}
    known = claim(folder, run, force)
    if known:
        return Outcome.of_record(folder, known, "done before")
    workers = workers or available_cores()
    try:
        picture, mpp = small_picture(slide, classifier.mpp)
        found = survey(shrunk(picture, *slide.size(max(mpp, REDUCTION * classifier.mpp))))
        if plan.kind == "image":
            readers, tiles = _segment_image(slide, classifier, method, found, workers, progress)
            scale = slide.mpp
        else:
            job = _job(slide, classifier, method, plan, found, folder, offset)
            segment_tiles(job, slide, classifier, workers, progress)
            readers = {label_set.name: label_reader(job, label_set) for label_set in method.label_sets}
            tiles, scale = len(job.tissue), classifier.mpp
        overviews = shrunk(picture, *slide.size(max(mpp, slide.mpp * max(slide.height, slide.width) / OVERVIEW)))
        for label_set in method.label_sets:
            results = Results(results_of(folder), slide, scale, label_set, overviews, caveat)
            results.write(readers[label_set.name], method.min_area, progress)
    except BaseException:
        give_up(folder)
        raise
    facts = {"kind": plan.kind, "maps": plan.maps, "height": slide.height, "width": slide.width, "mpp": slide.mpp}
    facts |= {"tiles": tiles, "seconds": round(time.monotonic() - began, 1)}
    notes = [*slide.notes, *(f"{slide.path}: {note}" for note in input_notes(slide, classifier, found, plan))]
    classes = {label_set.name: record_of_label_set(label_set) for label_set in method.label_sets}
    record = {**run, "source": str(slide.path.absolute()), "frame": frame_of(slide), "facts": facts, "classes": classes}
    record = finish(folder, {**record, "notes": notes, "caveat": caveat})
    return Outcome.of_record(folder, record, "done")


def identity(slide: Slide, classifier: Classifier, method: Method, plan: Plan) -> dict[str, Any]:
    """Return all that the results depend on, as JSON can hold it."""
    file = slide.path.stat()
    return {
        "input": slide.path.name,
        "bytes": file.st_size,
        "modified": file.st_mtime_ns,
        "mpp": slide.mpp,
        "classifier": classifier.identity,
        "label sets": [label_set.name for label_set in method.label_sets],
        "CRF": {name: asdict(crf) for name, crf in method.crfs.items()},
        "kind": plan.kind,
        "maps": plan.maps,
        "batch size": method.batch_size,
        "smallest polygon": method.min_area,
        "feather": method.feather,
        "version": __version__,
    }


def frame_of(slide: Slide) -> dict[str, Any]:
    """Return which part of the file's full resolution is segmented: outlines count from its corner."""
    top, left = slide.corner
    bounds = {"top": top, "left": left, "height": slide.height, "width": slide.width}
    origin = "the scanned part (openslide.bounds), as QuPath shows it" if top or left else "the file's corner"
    return {**bounds, "counted from": origin}


def input_notes(slide: Slide, classifier: Classifier, found: Survey, plan: Plan) -> list[str]:
    """Return what about an input may not be as the user believes."""
    notes = survey_notes(found, plan.tiles)
    if slide.mpp > 2 * classifier.mpp:
        notes.append(
            f"at {slide.mpp:.3g} mpp, it is enlarged {slide.mpp / classifier.mpp:.1f} times for the classifier, which "
            f"was trained at {classifier.mpp:.2f} mpp: expect little of it"
        )
    return notes


# --- Pictures of the whole --------------------------------------------------------------------------------------------


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


# --- The two ways -----------------------------------------------------------------------------------------------------


def _job(
    slide: Slide, classifier: Classifier, method: Method, plan: Plan, found: Survey, folder: Path, offset: int
) -> SlideJob:
    grid = SlideGrid(*slide.size(classifier.mpp), classifier.tile, offset=offset)
    job = SlideJob(
        source=slide.path,
        mpp=slide.mpp,
        grid=grid,
        tissue=tiles_with_tissue(grid, found.tissue),
        batch_size=method.batch_size,
        label_sets=method.label_sets,
        crfs=method.crfs,
        scale=classifier.mpp,
        thresholds=classifier.thresholds,
        folder=folder / "work",
        feather=method.feather,
        maps=plan.maps,
        glass=found.threshold,
    )
    if found.blank.any():
        write_picture(job.blank_file, found.blank.astype(np.uint8))
    return job


def _segment_image(
    slide: Slide, classifier: Classifier, method: Method, found: Survey, threads: int, progress: Report
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
    progress: Report = lambda stage, done, total: None,
    whole: int = WHOLE_PIXELS,
    core: int = CORE,
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
    core : int
        Side of what is kept of a window, in px.

    Returns
    -------
    dict of str to ndarray of shape (H, W), uint8
        Label maps by the label set's name.
    """
    height, width = image.shape[:2]
    grid = SlideGrid(height, width, core=core if height * width > whole else max(height, width))
    margin = BACKGROUND_REACH + max(crf.reach for crf in method.crfs.values())
    label_maps = {label_set.name: np.empty((height, width), np.uint8) for label_set in method.label_sets}
    for number in range(math.prod(grid.cores)):
        kept = grid.core_window(number)
        window = kept.grown(margin).overlap(grid.frame)
        part = np.ascontiguousarray(image[window.within(grid.frame)])
        for name, found in segment(part, tiles, method.label_sets, method.crfs, threads, window):
            label_maps[name][kept.within(grid.frame)] = found.masks["CRF"][kept.within(window)]
        progress("windows", number + 1, math.prod(grid.cores))
    return label_maps


# --- Results ----------------------------------------------------------------------------------------------------------


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
    label_set : LabelSet
    picture : ndarray of shape (h, w, 3), uint8
        The whole slide, as the overview shows it.
    caveat : str
        What everyone who sees the results must know.
    """

    folder: Path
    slide: Slide
    mpp: float
    label_set: LabelSet
    picture: np.ndarray
    caveat: str

    def write(self, read: Callable[[Window], np.ndarray], min_area: float, progress: Report) -> None:
        """Write a label set's label map, polygons, areas and overview, unless they are there.

        Parameters
        ----------
        read : callable
            Gives a window of the label map, as uint8.
        min_area : float
            Area under which a polygon is left out, in square microns.
        progress : callable
            Called with the numbers of rows that are written and read, and of those to write and to read.
        """
        label_set, folder, stem = self.label_set, self.folder / self.label_set.name, self.slide.path.stem
        if (folder / "overview.png").exists():  # the last to be written, before the run was killed
            return
        height, width = self.slide.size(self.mpp)
        label_map, names = folder / f"{stem}.ome.tif", list(map(label_set.describe, label_set.codes))

        def step(done: int) -> None:
            progress(f"{label_set.name}, rows", done, 2 * height)

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
