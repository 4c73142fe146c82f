"""An image or slide of the user's own: segmented at whatever scale it has, and written to a folder of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..classify import Classifier
from ..errors import InputError
from ..io.locks import Lock, locked
from ..io.run_json import record_of_label_set
from ..io.writing import write_picture
from ..parallel import available_cores
from ..progress import Progress
from ..slide_io.slide import Slide, open_slide
from .grid import SlideGrid
from .in_memory import segment_whole
from .job import SlideJob, label_reader
from .plan import Method, Outcome, Plan, plan_for
from .results import OVERVIEW, Results, shrunk, small_picture, write_side_by_side
from .results_folder import claim, damage, describe_work, finish, give_up, results_of
from .tiled import segment_tiles
from .tissue import REDUCTION, Survey, survey, survey_notes, tiles_with_tissue


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
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    offset: int = 0,
    progress: Progress = lambda stage, done, total: None,
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
    name : str, optional
        Name of the folder of results; the file's, if left out.
    columns : mapping of str to str, optional
        What the user's list says of it, which comes back in the tables.
    offset : int
        By how many px at the classifier's scale a slide's tiles begin above and left of it.
    progress : callable
        See `progress.Progress`.
    """
    with locked(out / (name or slide.path.name)) as held:
        return _segment_claimed(slide, classifier, method, held, workers, force, columns or {}, offset, progress)


def _segment_claimed(
    slide: Slide,
    classifier: Classifier,
    method: Method,
    held: Lock,
    workers: int | None,
    force: bool,
    columns: Mapping[str, str],
    offset: int,
    progress: Progress,
) -> Outcome:
    began, folder = time.monotonic(), held.path.parent
    plan, caveat = plan_for(slide, classifier, method), classifier.labels.caveat
    run = identity(slide, classifier, method, plan) | {"offset": offset}
    damaged = damage(folder)
    known = claim(folder, run, force)
    if known:
        return Outcome.of_record(folder, known, "done before")
    try:
        tiles, notes = _make_results(
            slide, classifier, method, plan, folder, workers or available_cores(), offset, progress
        )
        check_unchanged(slide, run)
    except BaseException:
        give_up(folder)
        raise
    facts = {"kind": plan.kind, "maps": plan.maps, "height": slide.height, "width": slide.width, "mpp": slide.mpp}
    facts |= {"tiles": tiles, "seconds": round(time.monotonic() - began, 1)}
    about = {"facts": facts, "columns": dict(columns), "notes": [*slide.notes, *notes], "caveat": caveat}
    held.check()  # that no other run took the folder while this one was silent
    record = finish(folder, {**run, **source_of(slide), **classes_of(method), **about})
    outcome = Outcome.of_record(folder, record, "done")
    healed = (f"{damaged}; the results were made anew",) if damaged else ()
    return replace(outcome, notes=(*outcome.notes, *healed))


def _make_results(
    slide: Slide,
    classifier: Classifier,
    method: Method,
    plan: Plan,
    folder: Path,
    workers: int,
    offset: int,
    progress: Progress,
) -> tuple[int, list[str]]:
    """Write the results of all label sets; return the number of tiles, and what the user should know."""
    describe_work(folder, source_of(slide))
    picture, mpp = small_picture(slide, classifier.mpp)
    found = survey(shrunk(picture, *slide.size(max(mpp, REDUCTION * classifier.mpp))))
    if plan.kind == "image":
        readers, tiles = segment_whole(slide, classifier, method, found, workers, progress)
        scale = slide.mpp
    else:
        job = _job(slide, classifier, method, plan, found, folder, offset)
        describe_work(folder, {"windows": sum(map(job.has_tissue, range(math.prod(job.grid.blocks))))})
        segment_tiles(job, slide, classifier, workers, progress)
        readers = {label_set.name: label_reader(job, label_set) for label_set in method.label_sets}
        tiles, scale = len(job.tissue), classifier.mpp
    overviews = shrunk(picture, *slide.size(max(mpp, slide.mpp * max(slide.height, slide.width) / OVERVIEW)))
    about = results_of(folder), slide, scale, overviews, classifier.labels.caveat
    results = [Results(*about, label_set) for label_set in method.label_sets]
    write_side_by_side(results, readers, method.min_area, workers, progress)
    return tiles, [f"{slide.path}: {note}" for note in input_notes(slide, classifier, found, plan)]


def source_of(slide: Slide) -> dict[str, Any]:
    """Return where a slide lies, and what of it is segmented."""
    place = {"source": str(slide.path.absolute()), "height": slide.height, "width": slide.width}
    return {**place, "frame": frame_of(slide)}


def classes_of(method: Method) -> dict[str, Any]:
    """Return the label sets, as far as looking at results needs them."""
    return {"classes": {label_set.name: record_of_label_set(label_set) for label_set in method.label_sets}}


def identity(slide: Slide, classifier: Classifier, method: Method, plan: Plan) -> dict[str, Any]:
    """Return all that the results depend on, as JSON can hold it."""
    return {
        "input": slide.path.name,
        **version_of(slide),
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


def version_of(slide: Slide) -> dict[str, int]:
    """Return what differs between a file and what it is once something is written to it."""
    file = slide.path.stat()
    return {"bytes": file.st_size, "modified": file.st_mtime_ns}


def check_unchanged(slide: Slide, run: Mapping[str, Any]) -> None:
    """Raise InputError if a file is not the one any more that a run began with."""
    if not version_of(slide).items() <= run.items():
        raise InputError(f"{slide.path}: changed while it was read; run the same command again once it is complete")


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


def _job(
    slide: Slide, classifier: Classifier, method: Method, plan: Plan, found: Survey, folder: Path, offset: int
) -> SlideJob:
    grid = SlideGrid(*slide.size(classifier.mpp), classifier.tile, offset=offset)
    job = SlideJob(
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
