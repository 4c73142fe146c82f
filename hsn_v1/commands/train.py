"""``hsn-v1 train``: train a classifier from patch labels alone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from ..errors import InputError
from ..training.recipe import TILE, Recipe


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``train``."""
    parser = subparsers.add_parser("train", help="train a classifier from patch labels alone")
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of models (default: data)")
    parser.add_argument("--out", type=Path, help="folder of log, checkpoints and report (default: out/NAME)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="patches to train on (default: phantoms)")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="their labels: a file name and 0 or 1 per class")
    parser.add_argument("--patches", type=int, default=4000, help="phantoms to train on (default: 4000)")
    parser.add_argument("--validation", type=int, help="patches to validate on (default: 1 for every 8 to train on)")
    parser.add_argument("--epochs", type=int, default=80, help="epochs in all (default: 80)")
    for field in fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        how = {"action": "store_true"} if kind is bool else {"type": kind, "default": field.default}
        parser.add_argument(option, help=f"{HELP[field.name]} (default: {field.default})", **how)
    parser.set_defaults(run=_run)


HELP = {
    "width": "factor of the numbers of filters",
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
    """Raise InputError at the first option that is of no use."""
    for name in ("patches", "validation", "epochs", "tile", "batch", "half_cycle", "session", "width", "high"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected a positive number")
    if not 0 <= arguments.low <= arguments.high:
        raise InputError(f"--low {arguments.low} --high {arguments.high}: expected 0 <= low <= high")
    if not 0 <= arguments.dropout <= 2 or arguments.seed < 0:
        raise InputError(f"--dropout {arguments.dropout} --seed {arguments.seed}: expected from 0 to 2, and from 0 on")
    if arguments.tile % 8 or (arguments.images and arguments.tile != TILE):
        raise InputError(f"--tile {arguments.tile}: expected a multiple of 8; images of a folder are {TILE} px")
    if bool(arguments.images) != bool(arguments.labels):
        raise InputError("--images and --labels go together: a folder of patches, and the CSV of their labels")


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from ..files.models import save_histonet
    from ..histonet import import_keras, quiet_start
    from ..training.fit import batches, classification_report, equal_error_thresholds, fit, write_report
    from ..training.patches import phantom_patches, read_patches

    _check_options(arguments)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    out = arguments.out or Path("out") / arguments.name
    if arguments.images:
        patches, notes = read_patches(arguments.images, arguments.labels)
        count = arguments.validation or max(1, len(patches) // 9)
        if count >= len(patches):
            raise InputError(
                f"{arguments.labels}: {len(patches)} patches; expected more than the {count} to validate on"
            )
        train, validation = patches.split(count, recipe.seed)
        judged = validation
    else:
        notes, count = [], arguments.validation or max(1, arguments.patches // 8)
        train = phantom_patches("training", arguments.patches, recipe.tile)
        validation = phantom_patches("validation", count, recipe.tile)
        judged = validation if recipe.tile == TILE else phantom_patches("validation", count)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    with quiet_start():
        import_keras()
    model = fit(train, validation, recipe, arguments.epochs, out)
    scores = model.predict(batches(judged, recipe, train=False), verbose=0)
    thresholds = equal_error_thresholds(judged.targets, scores)
    rows = classification_report(judged.targets, scores, thresholds)
    write_report(out, rows)
    save_histonet(arguments.data, arguments.name, model, thresholds)
    auc, f1 = (np.mean([row[key] for row in rows]) if rows else np.nan for key in ("AUC", "F1"))
    print(f"{arguments.data / arguments.name}: mean AUC {auc:.4f}, mean F1 {f1:.4f} of {len(rows)} classes")
    print(f"log, curves and classes in {out}")
    return 0
