"""``hsn-v1 patches``: cut patches with labels out of images with masks, or slides with annotations."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import note, tell
from .options import MPP, REST, SEED, SHARE, add_root, check_unused, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..labels import LabelSet
    from ..training.labelled_images import Cut, Source


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``patches``."""
    parser = subparsers.add_parser(
        "patches",
        help="cut patches with labels out of images with masks, or slides with annotations",
        description="Cut patches out of images or slides, and write the classes of each patch to labels.csv, for "
        "train. Training never sees where in a patch a class is. The same command resumes an interrupted run.",
    )
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("--images", type=Path, metavar="DIR", help="images with masks (--truth)")
    source("--slides", type=Path, metavar="PATH", help="slides with annotations: a folder, a slide, or a list as CSV")
    add = parser.add_argument
    add("--truth", type=Path, metavar="DIR", help="masks of the images, with the same names")
    add("--annotations", type=Path, metavar="DIR", help="GeoJSON files of the slides, named as these (docs/qupath.md)")
    add("--out", type=Path, required=True, help="folder to write patches and labels.csv into")
    add("--size", type=whole(1), required=True, metavar="PX", help="side of the patches")
    add("--stride", type=whole(1), metavar="PX", help="distance between neighbouring patches (default: the size)")
    add("--context", type=whole(0, 512), default=0, metavar="PX", help="margin, seen but not labelled (default: 0)")
    add("--mpp", type=MPP, help="microns per pixel of the images, or of slides that state none")
    add("--patch-mpp", type=MPP, help="scale of the patches (default: the images', or the model's)")
    add("--share", type=SHARE, default=0.35, help="least share of a patch for a class to be its label (default: 0.35)")
    add_classes = parser.add_mutually_exclusive_group().add_argument
    add_classes(
        "--classes",
        nargs="+",
        metavar="CLASS=COLOUR",
        help="the masks' classes, such as tumour=#004080 stroma=#408000; or the annotated classes to use (default: "
        "all)",
    )
    add_classes("--model", metavar="NAME", help="model that has the classes")
    add("--label-set", help="label set of the model (default: its first)")
    add_root(parser)
    add("--resize", action="store_true", help="stretch masks of another shape to their images")
    add("--validation", type=REST, default=0, metavar="SHARE", help="share of images or slides set aside (default: 0)")
    add("--max-per-class", type=whole(1), metavar="N", help="most patches to draw per class (default: all)")
    add("--seed", type=SEED, default=0, help="seed of the draws (default: 0)")
    add("--force", action="store_true", help="cut anew, and replace patches of other settings")
    add("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=_run, resumes=True)


def _run(arguments: argparse.Namespace) -> int:
    from ..io.locks import alone_in
    from ..training.labelled_images import Cut

    _check_options(arguments)
    stride, parts = arguments.stride or arguments.size, (arguments.share, arguments.validation, arguments.seed)
    cut = Cut(arguments.size, stride, *parts, arguments.context, arguments.max_per_class)
    with alone_in(arguments.out):
        sources, label_set = (_slides if arguments.slides else _images)(arguments)
        return _cut(sources, label_set, cut, arguments)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise InputError for the first option that cannot be used."""
    kind, (with_it, without) = "slides", (("annotations",), ("truth", "resize"))
    if arguments.images:
        kind, (with_it, without) = "images", (("truth", "mpp"), ("annotations",))
    for name in with_it:
        if not getattr(arguments, name):
            hint = ": microns per pixel, such as 0.5 at 20x" if name == "mpp" else ""
            raise InputError(f"--{name} is missing: it goes with --{kind}{hint}")
    check_unused(arguments, without, f"--{kind}")
    if arguments.label_set and not arguments.model:
        raise InputError("--label-set goes with --model")
    inputs = (arguments.images, arguments.truth, arguments.slides, arguments.annotations)
    if arguments.out.resolve() in (path.resolve() for path in inputs if path):
        raise InputError(f"--out {arguments.out}: patches would lie among what they are cut from; choose another")


def _images(arguments: argparse.Namespace) -> tuple[Sequence[Source], LabelSet]:
    """Return the images with their masks, and their classes."""
    from ..training.labelled_images import images_with_masks

    label_set, factor = _label_set(arguments), arguments.mpp / (arguments.patch_mpp or arguments.mpp)
    resize = "silently" if arguments.resize else "noted"
    return images_with_masks(arguments.images, arguments.truth, label_set, factor, resize), label_set


def _slides(arguments: argparse.Namespace) -> tuple[Sequence[Source], LabelSet]:
    """Return the slides with their annotations, and their classes; print a note on slides without annotations."""
    from ..io.model_files import taxonomy_of
    from ..io.reading import no_folder
    from ..slide_io.annotations import find_annotations, listed
    from ..slides.inputs import TABLE_ENDINGS, inputs_of, read_list
    from ..training.labelled_images import AnnotatedSlide

    if not arguments.annotations.is_dir():
        why = no_folder(arguments.annotations)
        raise InputError(f"{arguments.annotations}: {why}; it should hold GeoJSON files, as QuPath exports them")
    is_list = arguments.slides.suffix.lower() in TABLE_ENDINGS
    inputs, remarks = read_list(arguments.slides) if is_list else inputs_of([arguments.slides])
    tell([*remarks, *(item.problem for item in inputs if item.problem)])
    usable = [item for item in inputs if not item.problem]
    files = find_annotations(arguments.annotations, [item.path for item in usable])
    lacking = [item.name for item in usable if item.path not in files]
    if not files:
        raise InputError(
            f"{arguments.annotations}: no annotations of the {len(usable)} slides in {arguments.slides}; expected such "
            f"as {lacking[0] if lacking else 'slide.svs'}.geojson"
        )
    if lacking:
        note(f"left out: {len(lacking)} slide{'s' * (len(lacking) > 1)} without annotations: {listed(lacking)}")
    label_set = _label_set(arguments, [*files.values()])
    mpp = arguments.patch_mpp or (taxonomy_of(arguments.root, arguments.model).mpp if arguments.model else None)
    if not mpp:
        raise InputError("--patch-mpp is missing: the scale of the patches in microns per pixel, such as 1 at 10x")
    slides = [item for item in usable if item.path in files]
    return [
        AnnotatedSlide(item.path, files[item.path], label_set, mpp, item.mpp or arguments.mpp) for item in slides
    ], label_set


def _cut(sources: Sequence[Source], label_set: LabelSet, cut: Cut, arguments: argparse.Namespace) -> int:
    import numpy as np

    from ..slide_io.annotations import listed
    from ..training.classes import mixture_of
    from ..training.cut_patches import SHEETS, cut_patches, size_that_helps

    labels, notes, failures = cut_patches(sources, label_set, cut, arguments.out, arguments.quiet, arguments.force)
    status = tell(notes, failures)
    codes = [label_set.codes[i] for i in label_set.classified]
    for folder, present in labels.items():
        counts = ", ".join(f"{n} with {code}" for code, n in zip(codes, present.sum(axis=0), strict=True))
        mixture = mixture_of(codes, present)
        print(f"{folder / 'labels.csv'}: {len(present)} patches, {counts}; {mixture}")
        tell(mixture.warnings(partial(size_that_helps, sources, label_set, cut)))
    present = np.concatenate([*labels.values()]).any(axis=0)
    if absent := [code for code, is_there in zip(codes, present, strict=True) if not is_there]:
        where = "names in the annotations" if arguments.slides else "colours in the masks"
        note(f"in no patch at all: {listed(absent)}; check their {where}, or cut smaller patches")
    if arguments.slides and not cut.validation:
        note(
            "train would validate on patches of slides that it trains on: of several slides, keep some by --validation"
        )
    print(f"look at some patches of each class before you train: {arguments.out / SHEETS}")
    return status


def _label_set(arguments: argparse.Namespace, annotations: Sequence[Path] = ()) -> LabelSet:
    """Return the classes of the masks or annotations: the model's, the options', or all annotated classes."""
    from ..labels import LabelSet
    from ..training.labelled_images import classes_of
    from ..training.new_class_file import distinct_colours, parse_classes

    if arguments.model:
        from ..io.model_files import taxonomy_of  # takes half a second

        labels = taxonomy_of(arguments.root, arguments.model)
        label_sets = labels.group(arguments.label_set or next(iter(labels.label_sets)))
        if len(label_sets) > 1:
            raise InputError(f"--label-set {arguments.label_set}: expected one, out of {', '.join(labels.label_sets)}")
        if not label_sets[0].classified:
            raise InputError(f"{label_sets[0].name}: none of its classes is an output of {arguments.model}: no labels")
        return label_sets[0]
    if not arguments.classes and not annotations:
        raise InputError("one of --classes and --model is missing: the classes of the masks")
    classes = parse_classes(arguments.classes or ()) or dict.fromkeys(classes_of(annotations, arguments.quiet))
    bare = [code for code, colour in classes.items() if colour is None]
    if bare and not annotations:
        raise InputError(f"--classes {bare[0]}: its colour in the masks is missing, such as {bare[0]}=#004080")
    if not 0 < len(classes) < 255:
        raise InputError(f"{arguments.annotations}: {len(classes)} classes; name 1 to 254 by --classes")
    colours = iter(distinct_colours(len(bare), [colour for colour in classes.values() if colour]))
    classes = {code: colour or next(colours) for code, colour in classes.items()}
    excluded = {"excluded": len(classes)}  # the index after the classes, as benchmarks have it
    return LabelSet("masks", classes, {code: i for i, code in enumerate(classes)}, unlabelled=excluded)
