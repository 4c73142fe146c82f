"""``hsn-v1 segment``: segment images and whole slides of one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from .defaults import OFFICIAL_MODEL, default_model


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="segment your own images and whole slides",
        epilog="exit status: 0 done, 1 an input failed and the others are done, 2 nothing could be done",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image, slide, or a folder of such")
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
    parser.add_argument("--force", action="store_true", help="begin anew where results are")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..files.models import find_model, load_histonet, read_crfs, read_labels
    from ..files.slide import mpp_of_objective
    from ..files.writing import check_writable
    from ..slides.inputs import expand
    from ..slides.many import Scale, report, segment_files
    from ..slides.method import Method
    from ..workers import available_cores

    for option, value in (("batch-size", arguments.batch_size), ("workers", arguments.workers)):
        if value is not None and value < 1:
            raise InputError(f"--{option} {value}: expected a positive whole number")
    if not 0 <= arguments.min_area < float("inf"):
        raise InputError(f"--min-area {arguments.min_area}: expected 0 or more, in square microns")
    if not arguments.root.is_dir():
        raise InputError(f"--root {arguments.root}: no such folder; expected one that has data")
    override = arguments.mpp_override is not None
    given = arguments.mpp_override if override else arguments.mpp
    mpp = mpp_of_objective(arguments.objective) if arguments.objective else given
    if arguments.objective:
        print(f"note: {arguments.objective} is taken as {mpp:.3g} mpp, which is approximate", file=sys.stderr)
    files, passed = expand(arguments.inputs)
    name = arguments.model or default_model(arguments.root, arguments.labels)
    folder = find_model(arguments.root, name)
    labels = read_labels(folder, name)
    label_sets = labels.group(arguments.labels or ("both" if "both" in labels.groups else next(iter(labels.groups))))
    crfs, notes = read_crfs(folder, name, label_sets)
    for note in (*passed, *notes):
        print(f"note: {note}", file=sys.stderr)
    method = Method(label_sets, crfs, arguments.batch_size, arguments.min_area, arguments.feather, arguments.maps)
    out = arguments.out or arguments.root / "out" / "segmented"
    check_writable(out)
    workers = arguments.workers or available_cores()
    classifier, scale = load_histonet(folder, name), Scale(mpp, override)
    outcomes = segment_files(files, classifier, method, out, scale, workers, arguments.force, arguments.quiet)
    return report(outcomes, method, name, out)
