"""``hsn-v1 phantom``: write phantoms with their ground truth, as a set or as slides."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from .common import PHANTOM_SETS
from .options import SEED, SHARE, check_unused, decimal, whole

#: Options of slides.
SLIDE = ("size", "mpp", "tissue", "outlines", "region")


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``phantom``."""
    parser = subparsers.add_parser("phantom", help="write phantoms with their ground truth")
    add = parser.add_argument
    add("--kind", choices=[*PHANTOM_SETS, "slide"], required=True)
    add("--count", type=whole(1), default=1, help="number of images (default: 1)")
    add("--seed", type=SEED, default=0, help="seed of the first image (default: 0)")
    add("--out", type=Path, default=Path(), help="folder to write img and gt, or slides, into")
    add("--name", help=f"name of the set (default: {' or '.join(PHANTOM_SETS.values())})")
    add("--size", type=whole(256), default=10_000, help="side of a slide, in px (default: 10000)")
    add("--mpp", type=decimal(0.1, 2), default=0.25, help="microns per pixel of a slide (default: 0.25)")
    add("--tissue", type=SHARE, default=0.6, help="share of a slide that is tissue (default: 0.6)")
    add("--outlines", metavar="SET", help="also write a slide's true outlines: of morph or func")
    add("--region", type=SHARE, metavar="SHARE", help="share of a slide that counts, as a Region* (default: all)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..adp import HTT_MODES
    from ..io.locks import locked, locked_name
    from ..io.writing import remove_leftovers

    check_unused(arguments, ["name"] if arguments.kind == "slide" else SLIDE, f"--kind {arguments.kind}")
    if arguments.region and not arguments.outlines:
        raise InputError("--region goes with --outlines")
    label_sets = [label_set.name for label_set in HTT_MODES["both"]]
    if arguments.outlines not in (None, *label_sets):
        raise InputError(f"--outlines {arguments.outlines}: expected {' or '.join(label_sets)}")
    if arguments.kind == "slide":
        from ..phantoms.phantom_slide import write_outlines, write_slide

        for seed in range(arguments.seed, arguments.seed + arguments.count):
            path = arguments.out / f"phantom_slide_{seed:06d}.tif"
            with locked_name(arguments.out, path.name, "choose another --out"):
                remove_leftovers(arguments.out, path.stem)
                write_slide(path, arguments.size, arguments.mpp, arguments.tissue, seed)
                if arguments.outlines:
                    write_outlines(path, arguments.size, arguments.outlines, arguments.region)
            outlines = ", outlines in annotations" if arguments.outlines else ""
            print(f"{path}, ground truth in {path.stem}_morph.png and {path.stem}_func.png{outlines}")
        return 0
    from ..phantoms.phantom_set import write_set

    name = arguments.name or PHANTOM_SETS[arguments.kind]
    images, truth = (arguments.out / folder / name for folder in ("img", "gt"))
    with locked(images):
        remove_leftovers(images)
        remove_leftovers(truth)
        write_set(arguments.kind, arguments.count, arguments.seed, arguments.out, name)
    print(f"{arguments.count} images in {images}, ground truth in {truth}")
    return 0
