"""``hsn-v1 segment``: segment the user's own images and whole slides."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import image_sets
from .common import OFFICIAL_MODEL, default_model, note, say, tell
from .options import MPP, add_precision, add_root, add_views, add_workers, decimal, usable_precision, views_of, whole

if TYPE_CHECKING:
    from ..slides.inputs import Input
    from ..slides.results_folder import Outcome
    from ..slides.segment_many import RunOptions

FEW = 3  #: largest number of inputs that are each named if they failed for the same reason


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="segment your own images and whole slides",
        epilog="exit status: 0 done, 1 an input failed and the others are done, 2 nothing could be done",
    )
    add = parser.add_argument
    add("inputs", nargs="*", type=Path, metavar="INPUT", help="image, slide, or a folder of such")
    add("--list", type=Path, metavar="CSV", help="a list of slides, instead of inputs (docs/cluster.md)")
    add("--check", action="store_true", help="only print the list's problems")
    add("--shard", metavar="I/N", help="segment part I of N of the list, as one of N jobs")
    add("--dask", "--dask-config", metavar="WHERE", help="local[:N], slurm[:N], ..., tcp://SCHEDULER or scheduler.json")
    add("--labels", help="label set of the classifier (default: its first; of ADP's, both morph and func)")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--mpp", type=MPP, help="microns per pixel at full resolution, if the file states none")
    scale.add_argument("--objective", metavar="20x", help="magnification, if mpp is unknown: a rough substitute")
    scale.add_argument("--mpp-override", type=MPP, metavar="MPP", help="like --mpp, instead of the file's")
    add(
        "--maps",
        choices=("auto", "adjusted", "gradcam"),
        default="auto",
        help="maps to average where tiles overlap: adjusted maps, as in the paper, or Grad-CAMs, as in the demos; "
        "auto: Grad-CAMs for small images near the demos' scales (docs/slides.md)",
    )
    add("--model", help=f"classifier (default: {OFFICIAL_MODEL}, or one trained on phantoms)")
    add_root(parser)
    add("--out", type=Path, help="folder that gets a results folder for each input (default: ROOT/out/segmented)")
    add("--batch-size", type=whole(1), default=8, help="tiles classified at once (default: 8)")
    add_workers(parser)
    add("--regions", type=Path, metavar="DIR", help="only annotated regions: GeoJSON files named as the slides")
    add("--min-area", type=decimal(0, 1e12), default=100, help="smallest polygon in um2 (default: 100)")
    add("--leave-out-pen", action="store_true", help="count pen marks as glass (default: only report them)")
    add("--zarr", action="store_true", help="also write label maps as OME-Zarr: pip install 'hsn_v1[zarr]'")
    add("--self-contained", action="store_true", help="make the page one file that can be mailed")
    add_precision(parser)
    add_views(parser)
    add("--force", action="store_true", help="begin anew, and replace existing results")
    add("--quiet", action="store_true", help="no progress bar")
    image_sets.add_options(parser)
    parser.set_defaults(run=_run, resumes=True)


def _run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    if arguments.given_labels or arguments.stages:
        return image_sets.run(arguments, arguments.model or default_model(arguments.root, arguments.labels))
    options = _options(arguments)
    inputs = _inputs(arguments, options)
    if arguments.check:
        print(f"{len(inputs)} input{'s' * (len(inputs) != 1)}; nothing is wrong with the list")
        return 0
    if not inputs:
        print(f"no inputs in shard {arguments.shard}: nothing to do")
        return 0
    from ..io.writing import check_writable, kept_if_used
    from ..slides.index_page import StatusTable, status_table

    with kept_if_used(options.out):
        check_writable(options.out)
        table = status_table(options.out, arguments.shard)
        on_change = StatusTable(table, inputs, note) if arguments.list else lambda outcome: None
        return _report(_segment(inputs, options, arguments, on_change), options, arguments.self_contained)


def _check_options(arguments: argparse.Namespace) -> None:
    if bool(arguments.inputs) == bool(arguments.list):
        raise InputError("segment: name inputs, or give --list CSV, one of the two")
    if (arguments.check or arguments.shard) and not arguments.list:
        raise InputError("--check and --shard go with --list")
    image_sets.check_options(arguments)


def _options(arguments: argparse.Namespace) -> RunOptions:
    from ..parallel import available_cores
    from ..slide_io.ome_zarr import check_ome_zarr
    from ..slide_io.scale import mpp_of_objective
    from ..slides.plan import Method
    from ..slides.segment_many import PATIENCE, RunOptions

    if arguments.zarr:
        check_ome_zarr()
    override = arguments.mpp_override is not None
    mpp = arguments.mpp_override if override else arguments.mpp
    if arguments.objective:
        mpp = mpp_of_objective(arguments.objective)
        note(f"{arguments.objective} is taken as {mpp:.3g} mpp, which is approximate")
    return RunOptions(
        root=arguments.root.resolve(),
        out=(arguments.out or arguments.root / "out" / "segmented").absolute(),
        model=arguments.model or default_model(arguments.root, arguments.labels),
        labels=arguments.labels,
        mpp=mpp,
        override=override,
        method=Method(
            label_sets=(),
            crfs={},
            batch_size=arguments.batch_size,
            min_area=arguments.min_area,
            maps=arguments.maps,
            leave_out_pen=arguments.leave_out_pen,
            zarr=arguments.zarr,
        ),
        precision=usable_precision(arguments.precision),
        views=tuple(views_of(arguments).items()),
        workers=arguments.workers or (1 if arguments.dask else available_cores()),
        force=arguments.force,
        patience=PATIENCE if arguments.shard else 0,  # a batch system may restart a job on any machine
    )


def _inputs(arguments: argparse.Namespace, options: RunOptions) -> list[Input]:
    """Return the inputs to segment. Raises InputError if a list, a classifier or a label set cannot be used."""
    from ..slides.inputs import inputs_of, limited_to_regions, read_list, shard
    from ..slides.segment_many import check_methods

    inputs, remarks = read_list(arguments.list) if arguments.list else inputs_of(arguments.inputs)
    if arguments.regions:
        inputs = limited_to_regions(inputs, arguments.regions.absolute())
    problems, notes = check_methods(options, inputs)
    if not arguments.list:
        tell([*remarks, *notes])
        if problems:
            raise InputError(next(iter(problems.values())))
        return inputs
    lines = [*remarks, *(f"{name}: {problem}" for name, problem in problems.items())]
    for line in lines:
        say("problem", line)
    if lines:
        raise InputError(f"{arguments.list}: {len(lines)} problem{'s' * (len(lines) != 1)}; nothing was started")
    tell(notes)
    if not arguments.shard:
        return inputs
    number, _, count = arguments.shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"--shard {arguments.shard}: expected I/N with I from 1 to N, such as 3/20")
    return shard(inputs, int(number), int(count))


def _segment(
    inputs: list[Input], options: RunOptions, arguments: argparse.Namespace, on_change: Callable[[Outcome], None]
) -> list[Outcome]:
    """Segment inputs in this process and its workers, or on a Dask cluster."""
    if not arguments.dask:
        from ..slides.segment_many import segment_many

        return segment_many(inputs, options, arguments.quiet, on_change)
    from ..parallel import available_cores
    from ..progress import track
    from ..slides.cluster.dask_engine import segment_on_dask

    outcomes = segment_on_dask(inputs, options, arguments.dask, available_cores(), note, on_change)
    return list(track(outcomes, "slides", len(inputs), arguments.quiet))


def _report(outcomes: list[Outcome], options: RunOptions, self_contained: bool) -> int:
    """Write the index of all results, print failures, and return the exit status."""
    from ..io.model_files import find_model, model_card_of, read_taxonomy
    from ..show.html import PAGE
    from ..slides.index_page import write_index

    folder = find_model(options.root, options.model)
    taxonomy, card = read_taxonomy(folder, options.model), model_card_of(folder, options.model)
    method, _ = options.method_for(taxonomy, options.model, options.labels)
    unwritten = write_index(options.out, outcomes, options.model, method.crfs, self_contained, card)
    caveats = dict.fromkeys(outcome.caveat for outcome in outcomes if outcome.caveat)
    notes = [text for outcome in outcomes for text in outcome.notes]
    failures = [outcome.reason for outcome in outcomes if outcome.status == "failed"]
    tell([*unwritten, *caveats, *counted(notes, 1)], counted(failures, FEW))
    finished = [outcome for outcome in outcomes if outcome.status != "failed"]
    if finished:
        before = sum(outcome.status == "done before" for outcome in finished)
        done = f"{len(finished)} of {len(outcomes)} inputs segmented{f', {before} of them before' * (before > 0)}"
        print(f"{done}; results in {options.out / PAGE}")
        print(f"a picture to look at: {next(finished[0].folder.glob('*/overview.png'))}")
    return 0 if len(finished) == len(outcomes) else 1 if finished else 2


def counted(lines: Iterable[str], few: int) -> list[str]:
    """Merge lines such as ``file: text``: of more than `few` whose texts differ only in numbers, one with a count."""
    kinds: dict[str, list[str]] = {}
    for line in dict.fromkeys(lines):
        text = line.partition(": ")[2] or line
        kinds.setdefault(re.sub(r"[0-9][0-9.]*", "0", text), []).append(line)
    shown = []
    for alike in kinds.values():
        others = len(alike) - 1
        count = f" (and the same of {others} other input{'s' * (others > 1)})"
        shown += alike if len(alike) <= few else [alike[0] + count]
    return shown
