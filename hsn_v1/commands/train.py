"""``hsn-v1 train``: train a classifier from patch labels alone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..training.recipe import NETWORKS, POOLINGS, TILE, Recipe

if TYPE_CHECKING:
    from ..labels import Taxonomy
    from ..training.patches import LabelledPatches


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``train``."""
    parser = subparsers.add_parser("train", help="train a classifier from patch labels alone")
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that has data (default: this one)")
    parser.add_argument("--out", type=Path, help="folder of log, checkpoints and report (default: ROOT/out/NAME)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    data = parser.add_argument_group("patches")
    data.add_argument("--images", type=Path, metavar="DIR", help="patches to train on (default: phantoms)")
    data.add_argument(
        "--labels",
        metavar="CSV",
        help="their labels: a file name, then 0 or 1 for each class; or names, for labels in the file names, such as "
        "x-[1 0 0].png (default: DIR/labels.csv, or else the names)",
    )
    data.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="the classes, in the order of the labels, each with a colour if you like (tumour=#004080): makes "
        "ROOT/data/NAME.toml (default: that file's, or the table's columns)",
    )
    data.add_argument(
        "--background",
        choices=("brightness", "grey", "none"),
        default="brightness",
        help="how a new NAME.toml finds background: as published, by grey above 200, or not (default: brightness)",
    )
    data.add_argument("--mpp", type=float, help="microns per pixel of the patches")
    data.add_argument("--model-mpp", type=float, help="scale that they are brought to (default: theirs, or NAME.toml's)")
    data.add_argument(
        "--validation",
        metavar="N|DIR",
        help="patches to validate on: a number drawn at random, or a folder like --images (default: 1 in 9)",
    )
    data.add_argument("--patches", type=int, default=4000, help="phantoms to train on (default: 4000)")
    network = parser.add_argument_group("network and training")
    network.add_argument(
        "--weights", default="none", metavar="none|imagenet|FILE", help="what to begin with (default: none)"
    )
    network.add_argument("--epochs", type=int, default=80, help="epochs in all (default: 80)")
    network.add_argument(
        "--saved-tile", type=int, default=TILE, help=f"side of the tiles that images are cut into later (default: {TILE})"
    )
    for field in fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        how = {"action": "store_true"} if kind is bool else {"type": kind, "default": field.default}
        if field.name in CHOICES:
            how["choices"] = CHOICES[field.name]
        network.add_argument(option, help=f"{HELP[field.name]} (default: {field.default})", **how)
    parser.set_defaults(run=_run)


CHOICES = {"network": tuple(NETWORKS), "pooling": POOLINGS}

HELP = {
    "network": "network",
    "pooling": "how HistoNet pools its last maps",
    "width": "factor of HistoNet's numbers of filters",
    "dropout": "factor of the dropout rates",
    "tile": "side of the patches trained on, in px",
    "batch": "patches in a step",
    "low": "least learning rate",
    "high": "greatest learning rate",
    "half_cycle": "epochs in which the learning rate rises, and in which it falls",
    "session": "epochs after which the learning rate's amplitude is halved",
    "bfloat16": "compute in bfloat16",
    "seed": "of the first weights, order and augmentation",
}


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise InputError at the first option that cannot be used."""
    positive = ("patches", "epochs", "tile", "batch", "half_cycle", "session", "width", "high", "saved_tile")
    for name in (*positive, "mpp", "model_mpp"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} {value}: expected a positive number")
    if not 0 <= arguments.low <= arguments.high:
        raise InputError(f"--low {arguments.low} --high {arguments.high}: expected 0 <= low <= high")
    if not 0 <= arguments.dropout <= 2 or arguments.seed < 0:
        raise InputError(f"--dropout {arguments.dropout} --seed {arguments.seed}: expected from 0 to 2, and from 0 on")
    for name in ("tile", "saved_tile"):
        if getattr(arguments, name) % 8:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: expected a multiple of 8")
    own = [name for name in ("labels", "classes", "mpp", "model_mpp") if getattr(arguments, name)]
    if own and not arguments.images:
        raise InputError(f"--{own[0].replace('_', '-')} goes with --images: a folder of patches")


@dataclass(frozen=True)
class _Data:
    """What is trained on, what is judged on, and what the outputs mean."""

    labels: Taxonomy
    class_file: str
    train: LabelledPatches
    validation: LabelledPatches
    notes: list[str]


def _run(arguments: argparse.Namespace) -> int:
    from ..files.models import save_histonet
    from ..files.writing import check_writable, write_bytes
    from ..histonet import import_keras, quiet_start
    from ..training.classes import check_classes, describe_classes
    from ..training.fit import fit
    from ..training.networks import begin_with, build_network
    from ..training.report import classification_report, equal_error_thresholds, write_report

    _check_options(arguments)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    folder, out = arguments.root / "data", arguments.out or arguments.root / "out" / arguments.name
    data = _own(arguments, recipe) if arguments.images else _phantoms(arguments, recipe)
    notes = [*data.notes, *check_classes(data.labels, data.train.targets, data.validation.targets)]
    print("\n".join(describe_classes(data.labels, data.train.targets, data.validation.targets)))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for each in (folder, out):
        check_writable(each)
    write_bytes(folder / f"{arguments.name}.toml", data.class_file.encode())
    with quiet_start():
        keras = import_keras()
        keras.utils.set_random_seed(recipe.seed)
        model = build_network(recipe, len(data.labels.outputs), imagenet=arguments.weights == "imagenet")
    if arguments.weights not in ("none", "imagenet"):
        print(begin_with(model, Path(arguments.weights)))
    fit(model, data.train, data.validation, data.labels, recipe, arguments.epochs, out, arguments.quiet)
    targets, scores = _scores(model, arguments, recipe, data)
    thresholds = equal_error_thresholds(targets, scores)
    rows = classification_report(data.labels.codes, targets, scores, thresholds)
    write_report(out, rows)
    final = build_network(recipe, len(data.labels.outputs), tile=arguments.saved_tile)
    final.set_weights(model.get_weights())
    save_histonet(folder, arguments.name, final, thresholds, data.labels.codes, data.class_file)
    _say_what_is_next(arguments, data, rows, out)
    return 0


def _own(arguments: argparse.Namespace, recipe: Recipe) -> _Data:
    """Read the user's patches, and their classes from the model's file of classes, or make one."""
    import numpy as np

    from ..adp import ADP
    from ..class_file import parse_taxonomy
    from ..new_class_file import class_file, parse_class
    from ..training.classes import match_columns, read_labels, targets_of
    from ..training.networks import NORMALISATION
    from ..training.patches import read_patches

    path = arguments.root / "data" / f"{arguments.name}.toml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = parse_taxonomy(text, str(path)) if text else None
    classes = dict(parse_class(each) for each in arguments.classes or ())
    codes = known.codes if known else tuple(classes)

    def read(folder: Path, labels: str | None):
        table = read_labels(folder, labels, codes)
        taxonomy, columns, notes = match_columns(table, tuple(classes), known, str(path), ADP)
        present = table.of(columns)
        paths = [folder / name for name in table.cells]
        scale = taxonomy.mpp if taxonomy else arguments.model_mpp or arguments.mpp
        factor = arguments.mpp / scale if arguments.mpp else None
        patches, left_out = read_patches(paths, present, recipe.tile, factor, arguments.quiet)
        return taxonomy, columns, patches, notes + left_out

    taxonomy, columns, patches, notes = read(arguments.images, arguments.labels)
    if taxonomy is None and not arguments.mpp:
        raise InputError("--mpp is missing: microns per pixel of the patches, such as 0.5 for 20x; the model keeps it")
    count = arguments.validation or str(max(1, len(patches) // 9))
    if count.isdigit():
        if not 0 < int(count) < len(patches):
            raise InputError(f"--validation {count}: of {len(patches)} patches; expected fewer, and at least 1")
        train, validation = patches.split(int(count), recipe.seed)
    else:
        train = patches
        _, other, validation, more = read(Path(count), None)
        notes += more
        if other != columns:
            raise InputError(f"{count}: labels {', '.join(other)}; expected {', '.join(columns)}, as in --images")
    if taxonomy is None:
        mean, std = NORMALISATION.get(recipe.network) or _statistics(train.images)
        background = None if arguments.background == "none" else arguments.background
        colours = {column: classes.get(column) for column in columns}
        text = class_file(arguments.name, colours, arguments.model_mpp or arguments.mpp, mean, std, background)
        taxonomy = parse_taxonomy(text, str(path))
        notes.append(f"{path} is new: classes with their colours and names; edit these at any time")
    elif not known:
        from importlib.resources import files

        text = (files("hsn_v1") / "adp.toml").read_text(encoding="utf-8")
    for each in (train, validation):
        each.targets.flags.writeable = False
    as_targets = [
        type(each)(each.images, targets_of(np.asarray(each.targets), columns, taxonomy)) for each in (train, validation)
    ]
    return _Data(taxonomy, text, *as_targets, notes)


def _statistics(images):
    """Return mean and standard deviation of the patches' R, G and B."""
    import numpy as np

    totals = [np.zeros(3), np.zeros(3)]
    for image in images:
        pixels = image.reshape(-1, 3).astype(np.float64)
        totals[0] += pixels.mean(axis=0)
        totals[1] += (pixels**2).mean(axis=0)
    mean, squares = (total / len(images) for total in totals)
    return mean.tolist(), np.sqrt(np.maximum(squares - mean**2, 1)).tolist()


def _scores(model, arguments, recipe, data):
    from ..training.fit import batches

    return data.validation.targets, model.predict(
        batches(data.validation, data.labels, recipe, train=False), verbose=0
    )


def _say_what_is_next(arguments, data, rows, out) -> None:
    import numpy as np

    auc, f1 = (float(np.mean([row[key] for row in rows])) for key in ("AUC", "F1"))
    print(f"{arguments.root / 'data' / arguments.name}: mean AUC {auc:.4f}, mean F1 {f1:.4f} of {len(rows)} classes")
    for row in rows:
        print(f"  {row['class']}: AUC {row['AUC']:.4f}, F1 {row['F1']:.4f}, threshold {row['threshold']:.4f}")
    print(f"log, curves and classes in {out}")


def _phantoms(arguments, recipe):
    raise InputError("--images is missing")
