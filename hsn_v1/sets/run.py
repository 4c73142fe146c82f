"""Run over a set of images: classify them in this process; refine, write and measure them in worker processes."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import cv2
import loky
import numpy as np

from ..classify import ClassifiedTiles, Classifier, classify
from ..densecrf import LARGE, load_compiled
from ..errors import InputError
from ..hsn_v1 import Segmentation, segment
from ..io import tree
from ..io.images import read_image
from ..io.locks import alone_in
from ..io.masks import Mask
from ..io.reading import read_object
from ..io.records import RECORD, check_same, facts_of, forget_others
from ..keras_start import outside_garbage_collection
from ..parallel import SMALL_IMAGES, side_by_side, worker_pool
from ..show.charts import confusion_figure
from . import official
from .measure import keep, measure, measure_written, read_truths
from .outputs import write_confusions, write_image, write_image_ious, write_ious, write_record, write_tables
from .report import ImageResult, Report, summarise
from .results_page import write_page
from .settings import Settings

AHEAD = 1 << 28  #: bytes of images that may be read while the classifier loads


@dataclass(frozen=True)
class InputImage:
    """An image as read, a note on conversions, and its ground truth by label set name, if it was read, too."""

    path: Path
    image: np.ndarray
    note: str
    truths: dict[str, Mask] | None = None


@dataclass(frozen=True)
class ClassifiedImage(InputImage):
    """An input image with its classified tiles."""

    tiles: ClassifiedTiles | None = None


class ReadAhead:
    """A thread that reads images and their ground truth while the classifier loads, which takes time."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._read, self._stopped = settings, {}, threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        size = 0
        for path in self._settings.images:
            if self._stopped.is_set() or size > AHEAD:
                break
            with contextlib.suppress(InputError, OSError, MemoryError):  # raised again when it is the image's turn
                self._read[path] = read_input(self._settings, path, with_truths=True)
                size += self._read[path].image.nbytes

    def stop(self) -> dict[Path, InputImage]:
        """Stop after the image that is being read, and return all images that were read."""
        self._stopped.set()
        self._thread.join()
        return self._read


def read_input(settings: Settings, path: Path, with_truths: bool = False) -> InputImage:
    """Read an image, and optionally its ground truth. Raises InputError if one of them cannot be read."""
    image, note = read_image(path)
    if settings.side:
        image = cv2.resize(image, (settings.side, settings.side), interpolation=cv2.INTER_LINEAR)
    return InputImage(path, image, note, read_truths(settings, path, image.shape[:2]) if with_truths else None)


def run(
    settings: Settings,
    classifier: Classifier,
    on_image: Callable[[], None] = lambda: None,
    ahead: Mapping[Path, InputImage] = MappingProxyType({}),
) -> Report:
    """Segment the images, and write and measure the results; an image that fails is left out and reported.

    `on_image` is called after each image, also after a failed one. `ahead` are the images that are already read, see
    `ReadAhead`. Raises InputError if results cannot be written, another run writes there, or no image could be
    segmented.
    """
    if settings.save.confidences or settings.save.maps or any(label_set.objects for label_set in settings.label_sets):
        tree.check_stems(settings.images)
    records = [settings.out / name for name in (tree.MADE_WITH, RECORD)]
    with alone_in(settings.out):
        new = [record for record in records if not record.exists()]
        written = find_written(settings, classifier)
        write_record(settings)
        with worker_pool(settings.workers, settings.out, SMALL_IMAGES) as pool:
            measured = {path: pool.submit(measure_written, settings, path) for path in written}
            damaged = [path for path, future in measured.items() if not future.exception() and future.result() is None]
            todo = [path for path in settings.images if path not in measured or path in damaged]
            finished = finish_images(settings, classifier, todo, partial(pool.submit, finish_image, settings), ahead)
            kept = ((path, future) for path, future in measured.items() if path not in damaged)
            results, failures = collect(chain(kept, finished), on_image)
            if not results:
                for record in new:
                    record.unlink(missing_ok=True)
                raise InputError(failures[min(failures)])
            why = "what was written of it before is damaged, or of another image: it was made anew"
            notes = [f"{path}: {why}" for path in damaged]
            report = summarise(results, failures, (*settings.notes, *notes), settings.label_sets)
            report = with_published(settings, report)
            write_report(settings, report, pool)
            write_record(settings, report)
    return report


def find_written(settings: Settings, classifier: Classifier) -> list[Path]:
    """Return the images whose masks a resumed run keeps; forget those that it makes anew, by `settings.anew`.

    Raises InputError if there are masks of other settings, which are not to be made anew.
    """
    record = settings.out / tree.MADE_WITH
    if not settings.resume:
        record.unlink(missing_ok=True)
        return []
    kept = {path: tree.image_record(settings.out, path.name) for path in settings.images}
    classes = {label_set.name: repr(label_set) for label_set in settings.label_sets}
    facts = {
        "label sets": [*classes],
        "mpp": settings.mpp / settings.downsample,
        "side": settings.side,
        "Grad-CAMs": settings.grad_cams or None,
        **facts_of(classifier, settings.crfs, classes=classes),
    }
    if settings.anew == "all":
        record.unlink(missing_ok=True)
    elif settings.anew == "none" and record.exists():
        check_same(settings.out, read_object(record), facts)
    forget_others(record, facts, kept.values())
    return [path for path, file in kept.items() if file.exists()]


def with_published(settings: Settings, report: Report) -> Report:
    """Return a report with the published metrics, if these compare, and with a sentence on whether they do."""
    if not settings.published or not report.weights or settings.caveat:
        return report
    if reason := official.obstacle(settings, report):
        return replace(report, comparison=f"Not comparable with the published numbers: {reason}.")
    doubt = "" if official.WEIGHTS_SHA256 else f"; of the weights here, {official.UNTOLD}"
    sentence = f"Published numbers: after the CRF, official weights, all images of the set{doubt}."
    return replace(report, published=settings.published, comparison=sentence)


def collect(
    finished: Iterable[tuple[Path, Future]], on_image: Callable[[], None]
) -> tuple[list[ImageResult], dict[str, str]]:
    """Return the images' results, and the reasons of failures by file name; call `on_image` after each image."""
    results, failures = [], {}
    for path, future in finished:
        try:
            results.append(future.result())
        except InputError as error:
            failures[path.name] = str(error)
        on_image()
    return results, failures


def finish_images(
    settings: Settings,
    classifier: Classifier,
    paths: Sequence[Path],
    submit: Callable[[ClassifiedImage], Future],
    ahead: Mapping[Path, InputImage] = MappingProxyType({}),
) -> Iterator[tuple[Path, Future]]:
    """Classify images in this process; `submit` gives each classified image to a worker, which does the rest.

    Yields finished images in any order, with the future from `submit`. The future of an image that cannot be read
    holds its InputError.
    """

    def pass_on(item: tuple[Path, ClassifiedImage | InputError]) -> Future:
        if isinstance(item[1], ClassifiedImage):
            return submit(item[1])
        failed = Future()
        failed.set_exception(item[1])
        return failed

    classified = classify_files(settings, classifier, paths, ahead)
    finished = side_by_side(classified, pass_on, settings.workers, settings.beside, 2 * settings.workers)
    return ((path, future) for (path, _), future in finished)


def classify_files(
    settings: Settings,
    classifier: Classifier,
    paths: Sequence[Path],
    ahead: Mapping[Path, InputImage] = MappingProxyType({}),
) -> Iterator[tuple[Path, ClassifiedImage | InputError]]:
    """Read and classify images; an image that cannot be read is yielded with its error, and stops no others."""
    unread: deque[tuple[Path, InputError]] = deque()

    def images() -> Iterator[tuple[InputImage, np.ndarray]]:
        for path in paths:
            try:
                read = ahead.get(path) or read_input(settings, path)
            except InputError as error:
                unread.append((path, error))
                continue
            yield read, read.image

    for read, _, tiles in classify(images(), classifier, settings.downsample, settings.batch_size):
        while unread:
            yield unread.popleft()
        yield read.path, ClassifiedImage(**vars(read), tiles=tiles)
    yield from unread


def finish_image(settings: Settings, classified: ClassifiedImage) -> ImageResult:
    """Segment a classified image, compare it with its ground truth, and write its files."""
    path, image, tiles = classified.path, classified.image, classified.tiles
    truths = read_truths(settings, path, image.shape[:2]) if classified.truths is None else classified.truths
    segmentations: dict[str, Segmentation] = {}
    if settings.run_level >= 2:
        crfs = settings.crfs if settings.run_level >= 3 else {}
        threads = settings.threads if image.shape[0] * image.shape[1] >= LARGE else 1
        segmentations |= segment(image, tiles, settings.label_sets, crfs, threads)
    masks = {
        (name, stage): mask for name, segmented in segmentations.items() for stage, mask in segmented.masks.items()
    }
    result = measure(settings, path, image.shape[:2], masks, truths)
    write_image(settings, path, image, tiles, segmentations, truths)
    result = replace(
        result,
        scores={
            label_set.name: float(tiles.scores[:, label_set.outputs(always)].mean())
            for label_set in settings.label_sets
            if (always := label_set.indices(label_set.always_present))
        },
        unresponsive={name: segmentation.unresponsive for name, segmentation in segmentations.items()},
        notes=(*filter(None, [classified.note]), *result.notes),
    )
    if settings.resume:
        keep(settings, path, result, classified.note)
    return result


def write_report(settings: Settings, report: Report, pool: loky.ProcessPoolExecutor) -> None:
    """Write the tables, figures and page of a set; worker processes draw the figures."""
    out, label_sets, figures = settings.out, {label_set.name: label_set for label_set in settings.label_sets}, []
    write_tables(settings, report)
    for (name, stage), confusion in report.confusions.items():
        figures.append(pool.submit(write_confusions, out, confusion, label_sets[name], stage))
    for name in report.weights:
        stacks = report.stacks(name)
        figures.append(pool.submit(write_ious, out, stacks, label_sets[name]))
        figures.append(pool.submit(write_image_ious, out, stacks, report.files, name))
    for figure in figures:
        figure.result()
    write_page(settings, report)  # last: it may hold the figures


@cache  # a pool that is reused is warm
def warm_up(crf: bool) -> None:
    """Load fonts, and the CRF's compiled code if `crf`, in a worker; see `parallel.start_workers`."""
    cv2.setNumThreads(1)  # there is a process for each core
    with outside_garbage_collection():
        confusion_figure(np.eye(3, 2, dtype=int), [0, 1], ["a", "b"], "")
        if crf:
            load_compiled()
