"""Segment a slide or an image of any size: the whole story, from the file to its results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_classifier, check_crfs, checked_label_sets
from ..classify import Classifier
from ..densecrf import CRF
from ..errors import InputError
from ..io.locks import locked
from ..io.records import facts_of, record_of_label_set, version_of
from ..labels import LabelSet, Taxonomy
from ..parallel import available_cores
from ..progress import Progress, no_progress
from ..slide_io.slide import Slide
from .in_memory import segment_whole
from .inputs import Input
from .plan import Method, Plan, SlideTask, plan_for
from .regions import SlideRegions, read_regions, version_of_regions
from .results import small_pictures, write_results
from .results_folder import Outcome, damage, describe_work, finish, give_up, replaced_work, take_up
from .tiled import segment_by_tiles
from .tissue import TissueMap, find_tissue, tissue_notes


def segment_slide(
    path: Path | str,
    classifier: Classifier,
    method: Method | None = None,
    out: Path | str = "out",
    *,
    label_sets: Iterable[LabelSet] = (),
    crfs: Mapping[str, CRF] | None = None,
    mpp: float | None = None,
    override: bool = False,
    workers: int | None = None,
    force: bool = False,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    regions: Path | None = None,
) -> Outcome:
    """Segment a slide or an image of any size; write label maps, polygons, areas and an overview of each label set.

    After a kill at any moment, the same call resumes the work.

    Parameters
    ----------
    path : Path or str
        The slide or image.
    classifier : Classifier
        The classifier, as `load_histonet` returns it.
    method : Method, optional
        Label sets, CRFs and all other settings, instead of the next two parameters.
    out : Path or str
        Folder in which the input gets a results folder.
    label_sets : iterable of LabelSet
        Label sets from ``classifier.labels``; by default, its default ones.
    crfs : mapping of str to CRF, optional
        CRFs by label set name, as `load_crfs` returns them; by default, CRFs with the default settings.
    mpp : float, optional
        Microns per pixel at full resolution, if the file does not state it.
    override : bool
        Use `mpp` even if the file states another one.
    workers : int, optional
        Number of worker processes, or, for an image, of threads; by default, one for each core.
    force : bool
        Begin anew, and replace existing results.
    name : str, optional
        Name of the results folder; by default, the file's name.
    columns : mapping of str to str, optional
        Further columns of the slide, from the user's list, which come back in the tables.
    progress : callable
        See `progress.Progress`.
    regions : Path, optional
        GeoJSON annotations that limit the segmentation, see `regions.read_regions`.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the slide cannot be read, results cannot be written, or the folder has results of another input or method.
    """
    check_classifier(classifier)
    if method and (label_sets or crfs):
        raise InputError("`method` has label sets and CRFs: leave `label_sets` and `crfs` out, or `method`")
    method = method or _method_of(classifier, label_sets, crfs)
    item = Input(Path(path), name or Path(path).name, mpp, columns=columns or {}, regions=regions)
    task = SlideTask(item, classifier, method, Path(out), override, workers or available_cores(), force, progress)
    with task.open() as slide:
        return segment_opened(slide, task)


def _method_of(classifier: Classifier, label_sets: Iterable[LabelSet], crfs: Mapping[str, CRF] | None) -> Method:
    """Return the method with given or default label sets and CRFs. Raises InputError if they cannot be used."""
    label_sets = label_sets or classifier.labels.group(classifier.labels.default_group)
    label_sets = checked_label_sets(label_sets, classifier)
    crfs = {label_set.name: CRF() for label_set in label_sets} if crfs is None else crfs
    check_crfs(crfs, label_sets, classifier)
    return Method(label_sets, crfs)


def segment_opened(slide: Slide, task: SlideTask) -> Outcome:
    """Segment an open slide: lock its folder, plan, find tissue, classify and refine, write, publish."""
    began, folder, classifier, method = time.monotonic(), task.folder, task.classifier, task.method
    regions, notes = read_regions(task.item.regions, slide) if task.item.regions else (None, ())
    with locked(folder) as lock:
        plan = plan_for(slide, classifier, method)
        facts = made_with(slide, task, plan)
        damaged, replaced = damage(folder), replaced_work(folder, facts)
        if record := take_up(folder, facts, task.force):
            return _done_before(slide, Outcome.of_record(folder, record, "done before"))
        try:
            describe_work(folder, place_of(slide))
            for_tissue, for_overview = small_pictures(slide, classifier.mpp)
            tissue_map = tissue_of(task, for_tissue, regions)

            if plan.kind == "image":
                label_maps = segment_whole(slide, task, tissue_map)
            else:
                label_maps = segment_by_tiles(slide, task, plan, tissue_map)
            if regions:
                label_maps = regions.limited(label_maps, slide.frame(label_maps.mpp), method.label_sets)

            write_results(slide, task, label_maps, for_overview)
            check_unchanged(slide, facts)
        except BaseException:
            give_up(folder)
            raise
        lock.check()  # that no other run took the folder while this one was unresponsive
        size = {"height": slide.height, "width": slide.width, "mpp": slide.mpp, "tiles": label_maps.tiles}
        about = {
            "classes": {label_set.name: record_of_label_set(label_set) for label_set in method.label_sets},
            "facts": {"kind": plan.kind, "maps": plan.maps, **size, "seconds": round(time.monotonic() - began, 1)},
            "columns": dict(task.item.columns),
            "notes": [*slide.notes, *input_notes(slide, task, tissue_map, plan), *notes],
            "caveat": classifier.labels.caveat,
        }
        record = finish(folder, {**facts, **place_of(slide), **about})
        outcome = Outcome.of_record(folder, record, "done")
        healed = f"{damaged}; the results were made anew" if damaged else ""
        return replace(outcome, notes=(*outcome.notes, *filter(None, (healed, replaced))))


def _done_before(slide: Slide, outcome: Outcome) -> Outcome:
    """Return the outcome of an earlier run, with the notes on this run's scale, which may be given differently."""
    texts = {note: note.removeprefix(f"{slide.path}: ") for note in slide.notes}
    new = [note for note, text in texts.items() if not any(old.endswith(text) for old in outcome.notes)]
    return replace(outcome, notes=(*outcome.notes, *new))


def tissue_of(task: SlideTask, picture: np.ndarray, regions: SlideRegions | None) -> TissueMap:
    """Return the map of the tissue to segment, found in a small picture, (h, w, 3) uint8."""
    return replace(
        find_tissue(picture, task.method.leave_out_pen),
        whitens_glass=any(label_set.background for label_set in task.method.label_sets),
        limits=regions.touched(*picture.shape[:2]) if regions else None,
    )


def place_of(slide: Slide) -> dict[str, Any]:
    """Return a slide's path, and the part of its file that is segmented, the origin of outlines; for JSON."""
    top, left = slide.corner
    bounds = {"height": slide.height, "width": slide.width}
    origin = "the scanned part (openslide.bounds), as QuPath shows it" if top or left else "the file's corner"
    frame = {"top": top, "left": left, **bounds, "counted from": origin}
    return {"source": str(slide.path.absolute()), **bounds, "frame": frame}


def made_with(slide: Slide, task: SlideTask, plan: Plan) -> dict[str, Any]:
    """Return the facts that the results depend on, for JSON."""
    method = task.method
    facts = {
        "input": slide.path.name,
        **version_of(slide.path),
        "mpp": slide.mpp,
        "label sets": [label_set.name for label_set in method.label_sets],
        "kind": plan.kind,
        "maps": plan.maps,
        "batch size": method.batch_size,
        "smallest polygon": method.min_area,
        "pen marks": "left out" if method.leave_out_pen else None,
        "OME-Zarr": method.zarr or None,
        "regions": version_of_regions(task.item.regions) if task.item.regions else None,
    }
    return {**facts, **facts_of(task.classifier, method.crfs)}


def check_unchanged(slide: Slide, facts: Mapping[str, Any]) -> None:
    """Raise InputError if the file has changed since the run began."""
    if not version_of(slide.path).items() <= facts.items():
        raise InputError(f"{slide.path}: changed while it was read; run the same command again once it is complete")


def input_notes(slide: Slide, task: SlideTask, tissue_map: TissueMap, plan: Plan) -> list[str]:
    """Return notes on an input whose tissue, scale or shares may surprise the user."""
    notes, classifier = tissue_notes(tissue_map, plan.tiles), task.classifier
    if plan.kind == "slide" and not tissue_map.whitens_glass and tissue_map.shows_glass:
        notes += [_glass_note(label_set, classifier.labels) for label_set in task.method.label_sets]
    if slide.mpp > 2 * classifier.mpp:
        notes.append(
            f"at {slide.mpp:.3g} mpp, it is enlarged {slide.mpp / classifier.mpp:.1f} times for the classifier, which "
            f"was trained at {classifier.mpp:.2f} mpp: expect little of it"
        )
    return [f"{slide.path}: {note}" for note in notes]


def _glass_note(label_set: LabelSet, taxonomy: Taxonomy) -> str:
    """Return a note on the glass among the tissue that a label set without background counts as its classes."""
    classes = set(label_set.codes)
    alike = [s.name for s in taxonomy.label_sets.values() if s.background and {*s.codes} - {s.background} == classes]
    advice = f"; label set {alike[0]} has the same classes and background" if alike else ""
    return (
        f"label set {label_set.name} has no background: bare glass among the tissue gets one of its classes, and "
        f"counts in its shares of the tissue{advice}"
    )
