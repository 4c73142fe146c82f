"""``hsn-v1 segment`` for sets of images: ``--stages``, masks of each stage; ``--given-labels``, pseudo-masks."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell
from .options import check_unused, is_given, views_of

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..labels import Taxonomy
    from ..sets.report import Report
    from ..sets.settings import Settings

#: Options of `segment` that sets of images do not support: they have neither regions nor files for QuPath.
WITHOUT = (
    *("list", "check", "shard", "dask", "objective", "mpp_override", "maps", "regions", "leave_out_pen", "zarr"),
    *("min_area", "precision"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for masks of each stage and for pseudo-masks to the command ``segment``."""
    group = parser.add_argument_group("pseudo-masks, of patches whose classes are known")
    group.add_argument(
        "--given-labels",
        metavar="CSV|names",
        help="classes that compete in each patch, instead of those above their thresholds: a table as for train, or "
        "names, for labels in the file names, such as x-[1 0 0].png",
    )
    group.add_argument(
        "--write",
        nargs="+",
        choices=("masks", "maps"),
        default=["masks"],
        help="masks: palette PNG files of class indices; maps: .npy files after each stage (default: masks)",
    )
    group = parser.add_argument_group("masks of each stage, of images in a folder")
    group.add_argument("--stages", action="store_true", help="write Grad-CAM, adjusted and final masks, as demos do")
    group.add_argument("--truth", type=Path, metavar="DIR", help="ground truth of the images, to score each stage")
    group.add_argument("--grad-cams", action="store_true", help="also write the Grad-CAMs before adjustment")


def check_options(arguments: argparse.Namespace) -> None:
    """Raise InputError at the first option that would be ignored."""
    if (arguments.truth or arguments.grad_cams) and not arguments.stages:
        raise InputError("--truth and --grad-cams go with --stages")
    if is_given(arguments, "write") and not arguments.given_labels:
        raise InputError("--write goes with --given-labels")
    if arguments.given_labels:
        check_unused(arguments, [*WITHOUT, "stages", "self_contained"], "--given-labels")
    elif arguments.stages:
        check_unused(arguments, WITHOUT, "--stages")


def run(arguments: argparse.Namespace, model: str) -> int:
    """Run ``segment --stages`` or ``segment --given-labels`` with a model."""
    from ..io.model_files import find_model, read_taxonomy
    from ..io.models import load_histonet
    from ..sets.settings import with_crfs

    folder = find_model(arguments.root, model)
    labels = read_taxonomy(folder, model)
    if arguments.given_labels:
        settings = _patches(arguments, labels)
        known = known_classes(settings.images, arguments.given_labels, labels)
    else:
        settings = _folder(arguments, labels)
    resume = arguments.stages or not arguments.force
    settings = with_crfs(replace(settings, batch_size=arguments.batch_size, resume=resume), folder, model)
    classifier = load_histonet(folder, model).with_views(**views_of(arguments))
    if arguments.given_labels:
        return _write_pseudo_masks(arguments, settings, classifier, known)
    return _segment_stages(arguments, settings, classifier)


# --- Masks of each stage ---------------------------------------------------------------------------------------------


def _folder(arguments: argparse.Namespace, labels: Taxonomy) -> Settings:
    """Return settings for the only input, a folder of images."""
    from ..sets.settings import SaveTypes, settings_of_folder

    if len(arguments.inputs) != 1 or not arguments.inputs[0].is_dir():
        raise InputError("--stages: expected one folder of images; slides have no stages")
    return settings_of_folder(
        arguments.inputs[0],
        labels,
        labels.group(arguments.labels) if arguments.labels else tuple(labels.label_sets.values()),
        arguments.out or arguments.root / "out" / "stages",
        arguments.truth,
        downsample=labels.mpp / (arguments.mpp or labels.mpp),
        save=SaveTypes(confidences=False),
        resize_truth="noted",
        caveat=labels.caveat,
        self_contained=arguments.self_contained,
        grad_cams=arguments.grad_cams,
        anew="all" if arguments.force else "none",
    )


def _segment_stages(arguments: argparse.Namespace, settings: Settings, classifier: Classifier) -> int:
    from rich.console import Console

    from ..sets.report import interval_tables, tables_of
    from ..show.html import for_terminal

    report = segment_images(settings, classifier, arguments.workers, arguments.quiet)
    for table in [*tables_of(report), *interval_tables(report)]:
        Console().print(for_terminal(table))
    return tell(report.notes, report.failures.values())


def segment_images(settings: Settings, classifier: Classifier, workers: int | None, quiet: bool) -> Report:
    """Segment images with a progress bar, print the path of the results page, and return the report."""
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


# --- Pseudo-masks ----------------------------------------------------------------------------------------------------


def _patches(arguments: argparse.Namespace, labels: Taxonomy) -> Settings:
    """Return settings for all images that the inputs name: files, or folders of files."""
    from ..io.images import find_images
    from ..parallel import available_cores
    from ..sets.settings import Settings
    from .evaluate import only_label_set

    images = [image for path in arguments.inputs for image in (find_images(path, "any") if path.is_dir() else [path])]
    return Settings(
        tuple(images),
        None,
        arguments.out or arguments.root / "out" / "pseudo_masks",
        (only_label_set(labels, arguments.labels),),
        mpp=labels.mpp,
        downsample=labels.mpp / (arguments.mpp or labels.mpp),
        workers=arguments.workers or available_cores(),
    )


def _write_pseudo_masks(
    arguments: argparse.Namespace, settings: Settings, classifier: Classifier, known: dict[str, Collection[str]]
) -> int:
    from ..progress import progress_bar
    from ..sets.pseudo_masks import MAPS, MASKS, write_pseudo_masks

    tell(settings.notes)
    folders = [*([MASKS] if "masks" in arguments.write else []), *(MAPS if "maps" in arguments.write else ())]
    with progress_bar(len(settings.images), arguments.quiet) as advance:
        failures = write_pseudo_masks(settings, classifier, known, folders, advance)
    done = len(settings.images) - len(failures)
    print(f"{done} of {len(settings.images)} images: {', '.join(folders)} in {settings.out}")
    return tell(failures=failures.values())


def known_classes(images: Sequence[Path], given: str, labels: Taxonomy) -> dict[str, Collection[str]]:
    """Return the codes of each image's classes, by file name; `given` is the path of a table, or ``names``.

    Raises InputError if the table or a name cannot be used, or a column is no class.
    """
    from ..training.patch_labels import read_label_table, read_names

    if given == "names":
        tables = [read_names(folder, labels.codes) for folder in dict.fromkeys(image.parent for image in images)]
    else:
        tables = [read_label_table(Path(given), images, labels.codes)]
    known = {}
    for table in tables:
        unknown = [column for column in table.columns if column not in labels.outputs and column not in labels.vague]
        if unknown:
            raise InputError(
                f"{table.source}: column {unknown[0]!r} is no class of the model; expected some of "
                f"{', '.join(labels.codes[:6])}"
            )
        for path, present in zip(table.cells, table.of(table.columns), strict=True):
            codes = [column for column, has in zip(table.columns, present, strict=True) if has]
            known[path.name] = [labels.codes[i] for i in labels.with_parents(codes)]
    return known
