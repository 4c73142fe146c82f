"""``hsn-v1 patches``: cut patches with labels out of images with masks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell

if TYPE_CHECKING:
    from ..labels import LabelSet
    from ..training.cut_patches import Cut


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``patches``."""
    parser = subparsers.add_parser(
        "patches",
        help="cut patches with labels out of images with masks",
        description="Cut patches out of images, and write which classes each contains to labels.csv, for train. Where "
        "in a patch a class is, training never sees.",
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="images")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="their masks, of the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write patches and labels.csv into")
    parser.add_argument("--size", type=int, required=True, metavar="PX", help="side of the patches")
    parser.add_argument("--stride", type=int, metavar="PX", help="from one to the next (default: the size)")
    parser.add_argument(
        "--context",
        type=int,
        default=0,
        metavar="PX",
        help="margin around a patch that is seen, not labelled (default: 0)",
    )
    parser.add_argument("--mpp", type=float, required=True, help="microns per pixel of the images")
    parser.add_argument("--patch-mpp", type=float, help="scale of the patches (default: the images')")
    parser.add_argument("--share", type=float, default=0.05, help="least share that a class covers (default: 0.05)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--classes", nargs="+", metavar="CLASS=COLOUR", help="the masks' classes, such as tumour=#004080 stroma=#408000"
    )
    which.add_argument("--model", metavar="NAME", help="model whose file of classes has them")
    parser.add_argument("--label-set", help="of the model (default: its first)")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that has data (default: this one)")
    parser.add_argument("--resize", action="store_true", help="stretch masks of another shape to their images")
    parser.add_argument(
        "--validation", type=float, default=0, metavar="SHARE", help="share of the images to keep apart (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the images kept apart (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..io.locks import alone_in
    from ..training.cut_patches import Cut

    stride, patch_mpp = arguments.stride or arguments.size, arguments.patch_mpp or arguments.mpp
    for name, value in (("size", arguments.size), ("stride", stride), ("mpp", arguments.mpp), ("patch-mpp", patch_mpp)):
        if not 0 < value < float("inf"):
            raise InputError(f"--{name} {value:g}: expected a positive number")
    if not 0 < arguments.share <= 1 or not 0 <= arguments.validation < 1 or arguments.seed < 0:
        raise InputError("--share: expected above 0, up to 1; --validation: from 0, below 1; --seed: from 0 on")
    label_set, factor = _label_set(arguments), arguments.mpp / patch_mpp
    if not 0 <= arguments.context <= 512:
        raise InputError(f"--context {arguments.context}: expected from 0 to 512")
    resize = "silently" if arguments.resize else "noted"
    parts = arguments.share, arguments.validation, arguments.seed
    cut = Cut(arguments.size, stride, factor, *parts, arguments.context, resize)
    with alone_in(arguments.out):
        return _cut(arguments, label_set, cut)


def _cut(arguments: argparse.Namespace, label_set: LabelSet, cut: Cut) -> int:
    from ..training.classes import mixture_of
    from ..training.cut_patches import cut_patches

    labels, notes, failures = cut_patches(
        arguments.images, arguments.truth, label_set, cut, arguments.out, arguments.quiet
    )
    status = tell(notes, failures)
    codes = [label_set.codes[i] for i in label_set.classified]
    for folder, present in labels.items():
        counts = ", ".join(f"{n} with {code}" for code, n in zip(codes, present.sum(axis=0), strict=True))
        mixture = mixture_of(codes, present)
        print(f"{folder / 'labels.csv'}: {len(present)} patches, {counts}; {mixture}")
        tell(mixture.warnings(cut.size))
    return status


def _label_set(arguments: argparse.Namespace) -> LabelSet:
    """Return the label set of the masks: of a model, or of the classes that the options name."""
    from ..io.models import taxonomy_of
    from ..labels import LabelSet
    from ..training.new_class_file import parse_classes

    if arguments.model:
        labels = taxonomy_of(arguments.root, arguments.model)
        label_sets = labels.group(arguments.label_set or next(iter(labels.label_sets)))
        if len(label_sets) > 1:
            raise InputError(f"--label-set {arguments.label_set}: expected one, out of {', '.join(labels.label_sets)}")
        return label_sets[0]
    classes = parse_classes(arguments.classes)
    bare = [code for code, colour in classes.items() if colour is None]
    if bare:
        raise InputError(f"--classes {bare[0]}: its colour in the masks is missing, such as {bare[0]}=#004080")
    excluded = {"excluded": len(classes)}  # the index after the classes, as benchmarks have it
    return LabelSet("masks", classes, {code: i for i, code in enumerate(classes)}, unlabelled=excluded)
