"""A run over a set of images: classified here, then refined, written and measured in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from .. import evaluate
from ..classify import ClassifiedTiles, Classifier, classify
from ..densecrf import CRF, LARGE
from ..errors import InputError
from ..files.images import Truth, read_image, read_objects, read_truth
from ..files.writing import check_writable
from ..hsn_v1 import Segmentation, segment
from ..object_metrics import ObjectSums, object_sums
from ..permutohedral import is_compiled
from ..show.charts import confusion_figure
from ..workers import SMALL_IMAGES, outside_garbage_collection, pool_of, side_by_side, worker_pool
from .outputs import (
    OBJECTS,
    object_mask,
    write_confusions,
    write_image,
    write_ious,
    write_metrics,
    write_object_metrics,
    write_scores,
)
from .page import write_page
from .report import ImageResult, Report, summarise
from .settings import Settings


def run(settings: Settings, classifier: Classifier, on_image: Callable[[], None] = lambda: None) -> Report:
    """Segment the images, and write and measure the results.

    An image that cannot be read, or that lacks ground truth, is left out and reported.

    Parameters
    ----------
    settings : Settings
    classifier : Classifier
    on_image : callable
        Called after each image, also after one that failed.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If results cannot be written, or no image at all could be segmented.
    """
    check_writable(settings.out)
    failures: dict[str, str] = {}
    notes = list(settings.notes)
    results: list[ImageResult] = []

    def images() -> Iterator[tuple[Path, np.ndarray]]:
        for path in settings.images:
            try:
                image, note = read_image(path)
            except InputError as error:
                failures[path.name] = str(error)
                on_image()
            else:
                notes.extend([note] if note else [])
                yield path, image

    with worker_pool(settings.workers, settings.out, SMALL_IMAGES) as pool:
        classified = classify(images(), classifier, settings.downsample, settings.batch_size)
        done = side_by_side(
            classified,
            lambda image: pool.submit(finish_image, settings, *image),
            settings.workers,
            settings.beside,
            ahead=2 * settings.workers,
        )
        for (path, _, _), future in done:
            try:
                results.append(future.result())
            except InputError as error:
                failures[path.name] = str(error)
            on_image()
        if not results:
            raise InputError(next(iter(failures.values())))
        report = summarise(results, failures, notes)
        write_metrics(settings.out, report, settings.label_sets)
        write_object_metrics(settings.out, report)
        write_scores(settings.out, report.scores, settings.save)
        label_sets = {label_set.name: label_set for label_set in settings.label_sets}
        figures = [
            pool.submit(write_confusions, settings.out, confusion, label_sets[name], stage)
            for (name, stage), confusion in report.confusions.items()
        ]
        figures += [
            pool.submit(write_ious, settings.out, report.stages(name), label_sets[name]) for name in report.weights
        ]
        for figure in figures:
            figure.result()
        write_page(settings, report)  # last: it may hold the figures
    return report


def finish_image(settings: Settings, path: Path, image: np.ndarray, tiles: ClassifiedTiles) -> ImageResult:
    """Segment a classified image, write its files and compare it with its ground truth."""
    truths: dict[str, Truth] = {}
    segmentations = {}
    if settings.truth and settings.run_level >= 3:
        for label_set in settings.label_sets:
            file = settings.truth / label_set.name / path.name
            truths[label_set.name] = read_truth(file, label_set, *image.shape[:2])
    if settings.run_level >= 2:
        crfs = settings.crfs if settings.run_level >= 3 else {}
        threads = settings.threads if image.shape[0] * image.shape[1] >= LARGE else 1
        segmentations = dict(segment(image, tiles, settings.label_sets, crfs, threads))
    objects = compare_objects(settings, path, segmentations) if truths else {}
    write_image(settings, path, image, tiles, segmentations, truths)
    return ImageResult(
        path.name,
        image.shape[:2],
        areas={
            (name, stage): np.bincount(mask.ravel(), minlength=len(segmentation.maps))
            for name, segmentation in segmentations.items()
            for stage, mask in segmentation.masks.items()
        },
        confusions={
            (name, stage): evaluate.confusion_matrix(truth.labels, mask, len(truth.pixels))
            for name, truth in truths.items()
            for stage, mask in segmentations[name].masks.items()
        },
        objects=objects,
        pixels={name: truth.pixels for name, truth in truths.items()},
        scores={
            label_set.name: float(tiles.scores[:, label_set.outputs(always)].mean())
            for label_set in settings.label_sets
            if (always := label_set.indices(label_set.always_present))
        },
        notes=tuple(
            f"{settings.truth / name / path.name}: {truth.strange} pixels have a colour of no class; "
            "they count as unlabelled"
            for name, truth in truths.items()
            if truth.strange
        ),
        silent={name: segmentation.silent for name, segmentation in segmentations.items()},
    )


def compare_objects(
    settings: Settings, path: Path, segmentations: Mapping[str, Segmentation]
) -> dict[tuple[str, str], ObjectSums]:
    """Compare the final masks' objects with the true ones, where there is a file of these.

    Parameters
    ----------
    settings : Settings
    path : Path
        The image's file.
    segmentations : mapping of str to Segmentation
        By the label set's name.

    Returns
    -------
    dict of (str, str) to ObjectSums
        By the label set's name and a key of `outputs.OBJECTS`.

    Raises
    ------
    InputError
        If the file is of no use.
    """
    sums = {}
    for label_set in settings.label_sets:
        folder = label_set.true_objects
        if folder and (file := settings.truth / folder / f"{path.stem}.bmp").exists():
            mask = segmentations[label_set.name].masks["CRF"]
            truth = read_objects(file, *mask.shape)
            for kind, separate in OBJECTS.items():
                sums[label_set.name, kind] = object_sums(separate(object_mask(mask, label_set)), truth)
    return sums


def start_workers(workers: int) -> None:
    """Start a set's worker processes, beside whatever this process does next."""
    pool, compiled = pool_of(workers, SMALL_IMAGES), is_compiled()
    for worker in range(workers):
        pool.submit(_warm_up, compiled or worker == 0)


@cache  # a pool that is asked for again is warm
def _warm_up(crf: bool) -> None:
    """Load fonts and compiled code, which takes longer than an image; not the CRF while another worker compiles it."""
    cv2.setNumThreads(1)  # there is a process for each core
    with outside_garbage_collection():
        confusion_figure(np.eye(3, 2, dtype=int), (0, 1), ("a", "b"), "")
        for classes in (2, 3, 5) if crf else ():  # each kind of class loop is compiled on its own
            CRF()(np.ones((classes, 2, 2), np.float32), np.zeros((2, 2, 3), np.uint8))
