"""``hsn-v1 segment``: segment images and whole slides of one's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import pseudo_masks
from .common import OFFICIAL_MODEL, add_precision, default_model, note, tell, usable_precision

if TYPE_CHECKING:
    from ..slides.cluster.cohort import Job
    from ..slides.plan import Method, Outcome
    from ..slides.slide_list import Entry


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="segment your own images and whole slides",
        epilog="exit status: 0 done, 1 an input failed and the others are done, 2 nothing could be done",
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="image, slide, or a folder of such")
    parser.add_argument("--list", type=Path, metavar="CSV", help="a list of slides instead (docs/cluster.md)")
    parser.add_argument("--check", action="store_true", help="only say what is wrong with the list")
    parser.add_argument("--shard", metavar="I/N", help="segment part I of N of the list, as one of N jobs")
    parser.add_argument("--retry", choices=["failed"], help="only what failed in an earlier run of the list")
    parser.add_argument(
        "--dask", "--dask-config", metavar="WHERE", help="local[:N], slurm[:N], ..., tcp://SCHEDULER or scheduler.json"
    )
    parser.add_argument("--labels", help="label set of the classifier's (default: both, that is morph and func)")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--mpp", type=float, help="microns per pixel at full resolution, where the file states none")
    scale.add_argument("--objective", metavar="20x", help="magnification, where mpp is unknown: a rough substitute")
    scale.add_argument("--mpp-override", type=float, metavar="MPP", help="like --mpp, whatever the file states")
    parser.add_argument(
        "--maps",
        choices=("auto", "adjusted", "gradcam"),
        default="auto",
        help="average the tiles' adjusted maps, as the paper's slides, or their Grad-CAMs, as the demos; auto: "
        "Grad-CAMs of small images near the demos' scales (docs/slides.md)",
    )
    parser.add_argument("--model", help=f"classifier (default: {OFFICIAL_MODEL}, or one trained on phantoms)")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that has data (default: this one)")
    parser.add_argument("--out", type=Path, help="folder that gets one for each input (default: ROOT/out/segmented)")
    parser.add_argument("--batch-size", type=int, default=8, help="tiles that are classified at once (default: 8)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one for each core)")
    parser.add_argument("--min-area", type=float, default=100, help="smallest polygon in um2 (default: 100)")
    parser.add_argument(
        "--feather",
        action="store_true",
        help="let a slide's tiles count less towards their borders where they overlap (default: alike, as the paper)",
    )
    parser.add_argument("--self-contained", action="store_true", help="make the page one file that can be mailed")
    add_precision(parser)
    parser.add_argument("--force", action="store_true", help="begin anew where results are")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    pseudo_masks.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    if arguments.given_labels:
        return pseudo_masks.run(arguments, arguments.model or default_model(arguments.root, arguments.labels))
    job = _job(arguments)
    entries = _entries(arguments, job)
    if arguments.check:
        print(f"{len(entries)} inputs; nothing is wrong with the list")
        return 0
    from ..io.writing import check_writable
    from ..slides.segment_many import report
    from ..slides.status_table import failed_before, status_table, status_writer

    before, listed = {}, entries
    if arguments.retry:
        entries, before = failed_before(job.out, arguments.shard, listed)
        print(f"{len(entries)} of {len(listed)} inputs failed before{'' if entries else ': nothing to do'}")
        if not entries:
            return 0
    check_writable(job.out)
    table = status_table(job.out, arguments.shard)
    on_change = status_writer(table, listed, before) if arguments.list else lambda outcome: None
    outcomes, method = (_on_dask if arguments.dask else _here)(entries, job, arguments, on_change)
    return report(outcomes, method, job.model, job.out, arguments.self_contained)


def _check_options(arguments: argparse.Namespace) -> None:
    for option, value in (("batch-size", arguments.batch_size), ("workers", arguments.workers)):
        if value is not None and value < 1:
            raise InputError(f"--{option} {value}: expected a positive whole number")
    if not 0 <= arguments.min_area < float("inf"):
        raise InputError(f"--min-area {arguments.min_area}: expected 0 or more, in square microns")
    if not arguments.root.is_dir():
        raise InputError(f"--root {arguments.root}: no such folder; expected one that has data")
    if bool(arguments.inputs) == bool(arguments.list):
        raise InputError("segment: name inputs, or give --list CSV, one of the two")
    if (arguments.check or arguments.shard or arguments.retry) and not arguments.list:
        raise InputError("--check, --shard and --retry go with --list")


def _entries(arguments: argparse.Namespace, job: Job) -> list[Entry]:
    from ..slides.cluster.cohort import unknown_methods
    from ..slides.inputs import expand
    from ..slides.slide_list import Entry, read_list, shard

    if not arguments.list:
        files, passed = expand(arguments.inputs)
        tell(passed)
        return [Entry(file, file.name) for file in files]
    entries, problems = read_list(arguments.list)
    problems += unknown_methods(job, entries)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if problems:
        raise InputError(f"{arguments.list}: {len(problems)} problems; nothing was started")
    if not arguments.shard:
        return entries
    number, _, count = arguments.shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"--shard {arguments.shard}: expected I/N with I from 1 to N, such as 3/20")
    return shard(entries, int(number), int(count))


def _job(arguments: argparse.Namespace) -> Job:
    from ..slide_io.slide import mpp_of_objective
    from ..slides.cluster.cohort import Job
    from ..slides.segment_many import Scale

    override = arguments.mpp_override is not None
    mpp = arguments.mpp_override if override else arguments.mpp
    if arguments.objective:
        mpp = mpp_of_objective(arguments.objective)
        note(f"{arguments.objective} is taken as {mpp:.3g} mpp, which is approximate")
    return Job(
        root=arguments.root.resolve(),
        out=(arguments.out or arguments.root / "out" / "segmented").absolute(),
        model=arguments.model or default_model(arguments.root, arguments.labels),
        labels=arguments.labels,
        scale=Scale(mpp, override),
        options=(arguments.batch_size, arguments.min_area, arguments.feather, arguments.maps),
        precision=usable_precision(arguments.precision),
        force=arguments.force,
    )


def _here(
    entries: list[Entry], job: Job, arguments: argparse.Namespace, on_change: Callable[[Outcome], None]
) -> tuple[list[Outcome], Method]:
    """Segment entries in this process and its workers, those of one classifier and label set after another."""
    from ..parallel import available_cores, start_workers
    from ..slide_io.formats import SLIDE_ENDINGS
    from ..slides.cluster.cohort import classifier_of, method_for
    from ..slides.segment_many import PATIENCE, segment_files
    from ..slides.tiled import warm_up

    workers, outcomes = arguments.workers or available_cores(), []
    if any(entry.path.suffix.lower() in (*SLIDE_ENDINGS, ".tif", ".tiff") for entry in entries):
        start_workers(workers, warm_up)  # beside the classifier, which takes seconds to load
    kinds = dict.fromkeys((entry.model or job.model, entry.labels or job.labels) for entry in entries)
    for model, labels in kinds:
        classifier = classifier_of(job.root, model, job.precision, workers)
        method, notes = method_for(job.root, classifier.labels, model, labels, job.options)
        tell(notes)
        part = [one for one in entries if (one.model or job.model, one.labels or job.labels) == (model, labels)]
        options = {"force": job.force, "quiet": arguments.quiet, "on_change": on_change}
        options["patience"] = PATIENCE if arguments.shard else 0  # a batch system begins a job again where it likes
        outcomes += segment_files(part, classifier, method, job.out, job.scale, workers, **options)
    return outcomes, method


def _on_dask(
    entries: list[Entry], job: Job, arguments: argparse.Namespace, on_change: Callable[[Outcome], None]
) -> tuple[list[Outcome], Method]:
    """Segment entries on a Dask cluster."""
    from dataclasses import replace

    from ..io.models import find_model, read_taxonomy
    from ..parallel import available_cores
    from ..progress import track
    from ..slides.cluster.cohort import method_for, segment_on_dask

    job = replace(job, threads=arguments.workers or 1)
    labels = read_taxonomy(find_model(job.root, job.model), job.model)
    method, _ = method_for(job.root, labels, job.model, job.labels, job.options)
    found = segment_on_dask(entries, job, arguments.dask, available_cores(), on_change)
    return list(track(found, "slides", len(entries), arguments.quiet)), method
