"""An image or slide of the user's own: segmented at whatever scale it has, and written to a folder of its own."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..adjust import BACKGROUND_REACH
from ..classify import ClassifiedTiles, Classifier, classify
from ..densecrf import CRF
from ..errors import InputError
from ..files.images import read_image
from ..files.label_maps import read_thumbnail, write_areas, write_label_map
from ..files.polygons import write_polygons
from ..files.slides import Slide, is_slide, open_slide, unlimited
from ..files.writing import check_writable, write_bytes, write_picture
from ..hsn_v1 import segment
from ..labels import LabelSet
from ..show.figures import overview
from ..workers import available_cores
from .grid import SlideGrid
from .page import write_reduced
from .whole_slide import (
    THUMBNAIL,
    SlideJob,
    label_reader,
    segment_tiles,
    thumbnail,
    tiles_with_tissue,
    tissue_mask,
)

OVERVIEW = 800  #: longest side of the overview's thumbnail, in px
WHOLE = 2_000_000  #: largest image that is segmented at once: its maps and lattices need about 0.8 GB a megapixel
CORE = 1024  #: side of what is kept of the windows of a larger one, in px
LEAST_TISSUE = 0.01  #: share of tissue under which a user may have given something else


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
    """

    label_sets: tuple[LabelSet, ...]
    crfs: Mapping[str, CRF]
    batch_size: int = 8
    min_area: float = 100.0
    feather: bool = False


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
        Kind (image or slide), height and width in px and mpp at full resolution, tiles classified, seconds.
    notes : tuple of str
        What the user should know.
    """

    source: Path
    folder: Path
    status: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def segment_slide(
    path: Path,
    classifier: Classifier,
    method: Method,
    out: Path,
    *,
    mpp: float | None = None,
    workers: int | None = None,
    force: bool = False,
    offset: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Segment a slide; write label maps, polygons, areas and an overview of each label set.

    Killed at any moment, the same call goes on where it was.

    Parameters
    ----------
    path : Path
        Slide, or an image of any size.
    classifier : Classifier
    method : Method
    out : Path
        Folder that gets a folder with the file's name.
    mpp : float, optional
        Microns per pixel at full resolution, where the file does not tell.
    workers : int, optional
        Number of worker processes; one for each core, if left out.
    force : bool
        Begin anew, and replace results that are there.
    offset : int
        By how many px at the classifier's scale the tiles begin above and left of the slide.
    progress : callable
        Called with the numbers of tiles that are done and of all that have tissue.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the slide cannot be read, results cannot be written, or the folder has results of another input or method.
    """
    began = time.monotonic()
    with open_slide(path, mpp) as slide:
        folder = out / slide.path.name
        facts = file_facts("slide", slide)
        if claim(folder, identity(slide, classifier, method) | {"offset": offset}, force):
            return Outcome(slide.path, folder, "done before", facts=facts)
        grid = SlideGrid(*slide.size(classifier.mpp), classifier.tile, offset=offset)
        mask = tissue_mask(thumbnail(slide, THUMBNAIL * classifier.mpp))
        job = SlideJob(
            source=slide.path,
            mpp=mpp,
            grid=grid,
            tissue=tiles_with_tissue(grid, mask),
            batch_size=method.batch_size,
            label_sets=method.label_sets,
            crfs=method.crfs,
            scale=classifier.mpp,
            thresholds=classifier.thresholds,
            folder=folder / "work",
            feather=method.feather,
        )
        segment_tiles(job, classifier, workers or available_cores(), progress)
        for label_set in method.label_sets:
            write_results(folder, slide, classifier.mpp, label_reader(job, label_set), label_set, method.min_area)
        finish(folder)
        facts |= {"tiles": len(job.tissue), "seconds": round(time.monotonic() - began, 1)}
        return Outcome(slide.path, folder, "done", facts=facts, notes=(*slide.notes, *doubts(slide, classifier, mask)))


def segment_picture(
    path: Path,
    classifier: Classifier,
    method: Method,
    out: Path,
    *,
    mpp: float | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Segment an image as the demos do, and write what `segment_slide` writes, at the image's own scale.

    Parameters, results and errors are those of `segment_slide`, but that the workers are threads of the CRF, and that
    progress counts windows.
    """
    began = time.monotonic()
    with open_slide(path, mpp) as slide:
        folder, facts = out / slide.path.name, file_facts("image", slide)
        if claim(folder, identity(slide, classifier, method), force):
            return Outcome(slide.path, folder, "done before", facts=facts)
        with unlimited():
            image, note = read_image(slide.path)
        ((_, _, tiles),) = classify([(None, image)], classifier, classifier.mpp / slide.mpp, method.batch_size)
        label_maps = segment_windows(image, tiles, method, workers, progress)
        for label_set in method.label_sets:
            labels = label_maps[label_set.name]

            def read(top: int, left: int, height: int, width: int, labels: np.ndarray = labels) -> np.ndarray:
                return labels[top : top + height, left : left + width]

            write_results(folder, slide, slide.mpp, read, label_set, method.min_area)
        finish(folder)
        facts |= {"tiles": len(tiles.scores), "seconds": round(time.monotonic() - began, 1)}
        notes = (*([note] if note else []), *slide.notes, *doubts(slide, classifier, tissue_mask(image)))
        return Outcome(slide.path, folder, "done", facts=facts, notes=notes)


def segment_windows(
    image: np.ndarray,
    tiles: ClassifiedTiles,
    method: Method,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
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
        Called with the numbers of windows that are done and of all.

    Returns
    -------
    dict of str to ndarray of shape (H, W), uint8
        Label maps by the label set's name.
    """
    height, width = image.shape[:2]
    grid = SlideGrid(height, width, core=CORE if height * width > WHOLE else max(height, width))
    margin = BACKGROUND_REACH + max(crf.reach for crf in method.crfs.values())
    label_maps = {label_set.name: np.empty((height, width), np.uint8) for label_set in method.label_sets}
    for number in range(math.prod(grid.cores)):
        core = grid.core_window(number)
        window = core.grown(margin).overlap(grid.frame)
        part = np.ascontiguousarray(image[window.within(grid.frame)])
        for name, found in segment(part, tiles, method.label_sets, method.crfs, threads, window):
            label_maps[name][core.within(grid.frame)] = found.masks["CRF"][core.within(window)]
        progress(number + 1, math.prod(grid.cores))
    return label_maps


def kind_of(path: Path, scale: float, mpp: float | None) -> str:
    """Tell what a file is segmented as: "slide", "image", or "large image", in windows."""
    with open_slide(path, mpp) as slide:
        if is_slide(path, scale, slide.mpp):
            return "slide"
        return "large image" if slide.height * slide.width > WHOLE else "image"


def doubts(slide: Slide, classifier: Classifier, tissue: np.ndarray) -> tuple[str, ...]:
    """Return what about an input, whose tissue a bool mask shows, may not be as the user believes."""
    notes = []
    if tissue.mean() < LEAST_TISSUE:
        share = f"{100 * tissue.mean():.1f} %"
        notes.append(f"{slide.path}: only {share} of it is darker than glass: is it tissue, stained with H&E?")
    if slide.mpp > 2 * classifier.mpp:
        notes.append(
            f"{slide.path}: at {slide.mpp:.3g} mpp, it is enlarged {slide.mpp / classifier.mpp:.1f} times for the "
            f"classifier, which was trained at {classifier.mpp:.2f} mpp: expect little of it"
        )
    return tuple(notes)


def write_results(
    folder: Path,
    slide: Slide,
    mpp: float,
    read: Callable[[int, int, int, int], np.ndarray],
    label_set: LabelSet,
    min_area: float,
) -> None:
    """Write a label set's label map, polygons, areas and overview.

    Parameters
    ----------
    folder : Path
        Gets a folder with the label set's name.
    slide : Slide
    mpp : float
        Scale of the label map, in microns per pixel.
    read : callable
        ``read(top, left, height, width)`` gives a window (px) of the label map, as uint8.
    label_set : LabelSet
    min_area : float
        Area under which a polygon is left out, in square microns.
    """
    folder, name = folder / label_set.name, slide.path.stem
    if (folder / "overview.png").exists():  # the last to be written, before the run was killed
        return
    height, width = slide.size(mpp)
    label_map = folder / f"{name}.ome.tif"
    counts = write_label_map(
        label_map, read, height, width, mpp, list(map(label_set.describe, label_set.codes)), f"{name} {label_set.name}"
    )
    scale = np.array([slide.width / width, slide.height / height])  # slide.mpp / mpp, but for whole pixels
    write_polygons(folder / f"{name}.geojson", label_map, label_set, scale, mpp, min_area)
    write_areas(folder / "areas.csv", counts, mpp, label_set)
    small = max(mpp, slide.mpp * max(slide.height, slide.width) / OVERVIEW)
    picture = thumbnail(slide, small)
    labels = read_thumbnail(label_map, *picture.shape[:2])
    write_reduced(folder, picture, labels, label_set)
    write_picture(folder / "overview.png", overview(picture, labels, label_set, small, slide.path.name, counts))


# --- A folder belongs to one input and method -------------------------------------------------------------------------


def identity(slide: Slide, classifier: Classifier, method: Method) -> dict[str, Any]:
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
        "batch size": method.batch_size,
        "smallest polygon": method.min_area,
        "feather": method.feather,
        "version": __version__,
    }


def claim(folder: Path, run: dict[str, Any], force: bool) -> bool:
    """Take a folder for a run, and tell whether it is finished there already.

    Raises
    ------
    InputError
        If the folder belongs to another run, or to none, or cannot be written to.
    """
    record = folder / "run.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if known and force:
        shutil.rmtree(folder)
        known = {}
    changed = [key for key in run if known and known.get(key) != run[key]]
    if changed:
        raise InputError(
            f"{folder}: holds results of another run ({changed[0]}: {known.get(changed[0])}, now {run[changed[0]]}); "
            "give --force to begin anew, or another --out"
        )
    check_writable(folder)
    if not known and any(path.suffix != ".part" for path in folder.iterdir()):
        raise InputError(f"{folder}: has files of somebody else's; move them away, or choose another --out")
    for part in folder.rglob(".*.part"):  # of a run that was killed while it wrote
        part.unlink()
    if not known:
        write_bytes(record, json.dumps(run, indent=1).encode())
    if known.get("finished"):
        shutil.rmtree(folder / "work", ignore_errors=True)
    return bool(known.get("finished"))


def finish(folder: Path) -> None:
    """Note that a folder's results are all there, and remove the intermediate files."""
    record = folder / "run.json"
    known = json.loads(record.read_text(encoding="utf-8"))
    write_bytes(record, json.dumps(known | {"finished": True}, indent=1).encode())
    shutil.rmtree(folder / "work", ignore_errors=True)


def file_facts(kind: str, slide: Slide) -> dict[str, Any]:
    """Return the facts of an `Outcome` that are known before anything is computed."""
    return {"kind": kind, "height": slide.height, "width": slide.width, "mpp": slide.mpp}
