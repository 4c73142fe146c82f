"""``hsn-v1 train``: train a classifier from patch labels alone."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..training.recipe import MOST_TILE, TILE, TILE_OF_WINDOWS, Recipe
from .common import note, tell
from .options import MPP, add_root, check_unused, decimal, whole

if TYPE_CHECKING:
    from ..training.training_data import TrainingData


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a classifier from patch labels alone",
        description="Train a classifier from patch labels alone. The same command resumes an interrupted training.",
    )
    add = parser.add_argument
    add("--name", required=True, help="name of the model")
    add_root(parser, new=True)
    add("--out", type=Path, help="folder of log, checkpoints and report (default: ROOT/out/NAME)")
    add("--quiet", action="store_true", help="no progress")
    _add_data(parser.add_argument_group("patches").add_argument)
    network = parser.add_argument_group("network and training").add_argument
    network("--weights", default="none", metavar="none|imagenet|FILE", help="initial weights (default: none)")
    network("--epochs", type=whole(1), default=80, help="epochs in all (default: 80)")
    network("--repeats", type=whole(1, 1000), default=1, metavar="N", help="train N times, with N seeds (default: 1)")
    network(
        "--saved-tile",
        type=whole(8, MOST_TILE),
        help=f"side of the tiles that the model is saved for (default: {TILE}, or {TILE_OF_WINDOWS} for "
        "efficientnet-lite0)",
    )
    for field in fields(Recipe):
        derived = field.name in DERIVED
        how = {"default": None if derived else field.default}
        if isinstance(field.default, bool):
            how["action"] = argparse.BooleanOptionalAction if derived else "store_true"
        elif isinstance(field.default, str):
            how["choices"] = field.metadata["choices"]
        else:
            how["type"] = (whole if isinstance(field.default, int) else decimal)(*field.metadata["within"])
        default = DERIVED.get(field.name, field.default)
        option, text = f"--{field.name.replace('_', '-')}", f"{field.metadata['help']} (default: {default})"
        network(option, help=text, **how)
    parser.set_defaults(run=_run, resumes=True)


def _add_data(add: Callable) -> None:
    add("--images", type=Path, metavar="DIR", help="patches to train on (default: phantoms)")
    add(
        "--labels",
        metavar="CSV",
        help="a table of their labels: a file name, then 0 or 1 for each class, or the names of its classes; or "
        "folders, for one per class; or names, for labels in the file names, such as x-[1 0 0].png (default: the first "
        "of these that DIR has)",
    )
    add(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="the classes, in the order of the labels, with optional colours (tumour=#004080), for a new "
        "ROOT/data/NAME.toml (default: the classes of that file, or the table's columns)",
    )
    add(
        "--background",
        choices=("brightness", "grey", "none"),
        default="brightness",
        help="how a new NAME.toml finds background: as published, grey above 200, or not at all (default: brightness)",
    )
    add("--mpp", type=MPP, help="microns per pixel of the patches")
    add("--model-mpp", type=MPP, help="scale to resize the patches to (default: theirs, or that of NAME.toml)")
    add(
        "--validation",
        metavar="N|DIR",
        help="patches to validate on: a number of them, drawn at random, or a folder like --images (default: 1 in 9)",
    )
    add("--patches", type=whole(1), default=4000, help="phantoms to train on (default: 4000)")


FINE = 1 / 40  #: factor on the learning rate in fine-tuning: the last layer, fitted before, diverges at higher rates

#: Options whose defaults depend on others, with these defaults in words.
DERIVED = {
    "tile": f"the patches', if they have context, else {TILE}",
    "frozen": "yes for efficientnet-lite0",
    "low": f"0.001, and {FINE:g} of it for efficientnet-lite0",
    "high": f"0.02, and {FINE:g} of it for efficientnet-lite0",
}


def _run(arguments: argparse.Namespace) -> int:
    from ..file_names import file_name
    from ..io.locks import alone_in, locked_name
    from ..io.writing import check_writable, remove_leftovers

    prepare(arguments)
    folder, out = arguments.root / "data", arguments.out or arguments.root / "out" / file_name(arguments.name)
    figures = {}
    for seed in range(arguments.seed, arguments.seed + arguments.repeats):
        repeat = "" if seed == arguments.seed else f"seed{seed}"
        name, place = f"{arguments.name}_{repeat}".removesuffix("_"), out / repeat
        with locked_name(folder, name), alone_in(place):
            check_writable(folder)
            remove_leftovers(folder, f"{file_name(name)}.")
            figures[name] = _train(arguments, name, place, seed)
    if len(figures) > 1:
        _say_spread(figures, out)
    return 0


def _say_spread(figures: dict[str, tuple[float, float]], out: Path) -> None:
    """Print mean and spread over trainings with different seeds, and write them as a table."""
    from ..io.writing import write_table
    from ..training.validation_report import spread

    write_table(out / "repeats.csv", [("model", "mean AUC", "mean F1"), *((k, *v) for k, v in figures.items())])
    for figure, values in zip(("mean AUC", "mean F1"), zip(*figures.values(), strict=True), strict=True):
        print(f"{figure} of {len(figures)} seeds: {spread(values)}")


def _train(arguments: argparse.Namespace, name: str, out: Path, seed: int) -> tuple[float, float]:
    """Train a classifier with a seed, print its figures, and return its mean AUC and F1."""
    from ..io.model_files import model_file
    from ..progress import training_bar
    from ..training.classes import check_classes, describe_classes, mixture_of
    from ..training.train import TrainingJob, train

    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    data = _patches(arguments, recipe) if arguments.images else _phantoms(arguments, recipe)
    warnings = check_classes(data.labels, data.train.targets, data.validation.targets)
    print("\n".join(describe_classes(data.labels, data.train.targets, data.validation.targets)), flush=True)
    mixture = mixture_of(data.labels.codes, data.train.targets > 0, data.labels)
    tell([*data.notes, *warnings, *mixture.warnings(lambda: max(recipe.tile // 2, 8))])
    sources = {
        "patches": str(arguments.images or "phantoms"),
        "labels": str(arguments.labels or ("labels.csv, or file names" if arguments.images else "of what is drawn")),
        "made by": shlex.join(["hsn-v1", *sys.argv[1:]]),
    }
    folder, epochs = arguments.root / "data", arguments.epochs
    job = TrainingJob(name, folder, out, epochs, arguments.weights, arguments.saved_tile, sources)
    with training_bar(arguments.quiet) as on_batch:
        rows = train(data, replace(recipe, seed=seed), job, on_batch)
    figures = tuple(sum(row[key] for row in rows) / len(rows) for key in ("AUC", "F1"))
    print(f"{model_file(folder, name, '')}: mean AUC {figures[0]:.4f}, mean F1 {figures[1]:.4f} of {len(rows)} classes")
    _say_figures(rows)
    print(f"log, curves and figures of each class in {out}; card: {model_file(folder, name, '.md')}")
    _say_what_is_next(arguments.root, name, data)
    return figures


def prepare(arguments: argparse.Namespace) -> None:
    """Fill in the options that depend on others; raise InputError at the first option that cannot be used."""
    from ..training.cut_patches import read_context

    pretrained = arguments.network == "efficientnet-lite0"
    if arguments.frozen is None:
        arguments.frozen = pretrained
    if arguments.saved_tile is None:
        arguments.saved_tile = TILE_OF_WINDOWS if pretrained else TILE
    for name in ("low", "high"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(Recipe, name) * (FINE if pretrained else 1))
    if arguments.tile is None:
        size, context = (arguments.images and read_context(arguments.images)) or (TILE, 0)
        factor = arguments.mpp / arguments.model_mpp if arguments.mpp and arguments.model_mpp else 1
        arguments.tile = -(-round((size + 2 * context) * factor) // 16) * 16 if context else TILE
    _check_options(arguments)
    from ..training.networks import check_weights  # not before: it loads much

    check_weights(arguments.network, arguments.weights)


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.low > arguments.high:
        raise InputError(f"--low {arguments.low} --high {arguments.high}: expected low <= high")
    for name in ("tile", "saved_tile"):
        least = 64 if arguments.network != "histonet" else 8
        if getattr(arguments, name) % 8 or getattr(arguments, name) < least:
            raise InputError(
                f"--{name.replace('_', '-')} {getattr(arguments, name)}: expected a multiple of 8, from {least} on"
            )
    if arguments.images:
        check_unused(arguments, ["patches"], "--images")
    else:
        of_patches = ("labels", "classes", "mpp", "model_mpp", "background")
        check_unused(arguments, of_patches, "phantoms; give --images, a folder of patches")


def _patches(arguments: argparse.Namespace, recipe: Recipe) -> TrainingData:
    from ..io.model_files import model_file
    from ..training.new_class_file import parse_classes
    from ..training.training_data import PatchSource, read_training_data

    source = PatchSource(
        arguments.images,
        arguments.labels,
        parse_classes(arguments.classes or ()),
        None if arguments.background == "none" else arguments.background,
        arguments.mpp,
        arguments.model_mpp,
        arguments.validation,
    )
    path = model_file(arguments.root / "data", arguments.name, ".toml")
    return read_training_data(source, path, recipe, arguments.quiet)


def _phantoms(arguments: argparse.Namespace, recipe: Recipe) -> TrainingData:
    from ..class_file import parse_taxonomy
    from ..phantoms.phantom_set import class_file, patches
    from ..training.training_data import LabelledPatches, TrainingData

    count = arguments.validation or str(max(1, arguments.patches // 8))
    if not count.isdigit() or int(count) < 1:
        raise InputError(f"--validation {count}: expected a number of phantoms")
    text = class_file()
    train, validation = (
        LabelledPatches(*patches(purpose, number, recipe.tile, arguments.quiet))
        for purpose, number in (("training", arguments.patches), ("validation", int(count)))
    )
    labels, judged = parse_taxonomy(text, "phantoms"), validation
    if recipe.tile != arguments.saved_tile and not recipe.frozen:  # phantoms of any size can be drawn
        judged = LabelledPatches(*patches("validation", int(count), arguments.saved_tile, arguments.quiet))
    return TrainingData(labels, text, train, validation, judged, [])


def _say_figures(rows: list[dict]) -> None:
    for row in rows[:12]:
        print(f"  {row['class']}: AUC {row['AUC']:.4f}, F1 {row['F1']:.4f}, threshold {row['threshold']:.4f}")
    for row in rows:
        if row["threshold"] >= 1:
            note(f"{row['class']}: its threshold is 1: it can never be found")


def _say_what_is_next(root: Path, name: str, data: TrainingData) -> None:
    """Print the next commands to run."""
    model = shlex.join(["--model", name, "--root", str(root)])
    print("next, with images and masks that were not trained on (MPP: their microns per pixel):")
    print(f"  hsn-v1 tune-crf {model} --images IMAGES --truth MASKS --mpp MPP")
    print(f"  hsn-v1 segment IMAGES {model} --labels {shlex.quote(next(iter(data.labels.label_sets)))} --mpp MPP")
    results = shlex.quote(str(root / "out" / "segmented"))
    print(f"  hsn-v1 evaluate {model} --prediction {results} --truth TRUTH")
