"""``hsn-v1 segment --stages``: images through the demos' runner, with masks of each stage, scores and a page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell, views_of

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..sets.report import Report
    from ..sets.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of stages to those of the command ``segment``."""
    group = parser.add_argument_group("masks of each stage, of images in a folder")
    group.add_argument("--stages", action="store_true", help="write Grad-CAM, adjusted and final masks, as demos do")
    group.add_argument("--truth", type=Path, metavar="DIR", help="masks of the images, to score each stage by")
    group.add_argument("--grad-cams", action="store_true", help="also write Grad-CAMs as before the adjustment")


def run(arguments: argparse.Namespace, model: str) -> int:
    """Carry out ``segment --stages`` with a model."""
    from rich.console import Console

    from ..io.model_files import find_model, read_taxonomy
    from ..io.models import load_histonet
    from ..sets.report import interval_tables, tables_of
    from ..sets.settings import SaveTypes, settings_of_folder, with_crfs
    from ..show.html import for_terminal

    if len(arguments.inputs) != 1 or not arguments.inputs[0].is_dir():
        raise InputError("--stages: expected one folder of images; slides have no stages")
    folder = find_model(arguments.root, model)
    labels = read_taxonomy(folder, model)
    label_sets = labels.group(arguments.labels) if arguments.labels else tuple(labels.label_sets.values())
    settings = settings_of_folder(
        arguments.inputs[0],
        labels,
        label_sets,
        arguments.out or arguments.root / "out" / "stages",
        arguments.truth,
        downsample=labels.mpp / (arguments.mpp or labels.mpp),
        save=SaveTypes(confidences=False),
        batch_size=arguments.batch_size,
        resize_truth="noted",
        resume=not arguments.force,
        caveat=labels.caveat,
        self_contained=arguments.self_contained,
        grad_cams=arguments.grad_cams,
    )
    settings = with_crfs(settings, folder, model)
    classifier = load_histonet(folder, model).with_views(**views_of(arguments))
    report = segment_images(settings, classifier, arguments.workers, arguments.quiet)
    for table in [*tables_of(report), *interval_tables(report)]:
        Console().print(for_terminal(table))
    return tell(report.notes, report.failures.values())


def segment_images(settings: Settings, classifier: Classifier, workers: int | None, quiet: bool) -> Report:
    """Segment images with a bar, say where the page is, and return the report."""
    from ..parallel import SMALL_IMAGES, available_cores, start_workers
    from ..progress import progress_bar
    from ..sets.run import run as run_set
    from ..sets.run import warm_up
    from ..show.html import PAGE

    settings = replace(settings, workers=workers or available_cores())
    start_workers(settings.workers, warm_up, SMALL_IMAGES)
    with progress_bar(len(settings.images), quiet) as advance:
        report = run_set(settings, classifier, advance)
    print(f"{len(report.files)} images segmented; results in {settings.out / PAGE}")
    return report
