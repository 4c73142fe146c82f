"""Keep the recipe, log and checkpoints of a training, and resume from them. Damaged ones are discarded with a note.

Checkpoints are ``.npz`` files made in memory: HDF5's library, which Keras writes with, crashes on a full disk.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..histonet import finish_weights
from ..io.reading import is_there, line_of, open_regular, read_bytes, read_object
from ..io.records import difference
from ..io.writing import write_bytes, write_table

if TYPE_CHECKING:
    import keras

BEST, LAST, PREVIOUS = CHECKPOINTS = "best.npz", "last.npz", "previous.npz"
RECIPE, LOG = "recipe.json", "log.csv"


def check_recipe(out: Path, recipe: dict[str, Any]) -> list[str]:
    """Write a training's recipe to its folder, or check that the one there is the same; return notes.

    Raises InputError if the folder holds a training by another recipe.
    """
    path, notes = out / RECIPE, []
    before = read_object(path) if path.exists() else recipe
    if not before:
        notes.append(f"{path}: cannot be read; training begins anew")
        forget(out)
    elif changed := difference(before, recipe):
        raise InputError(f"{out}: holds a training with {changed}; give the same options to go on, or another `out`")
    write_bytes(path, json.dumps(recipe, indent=1).encode())
    return notes


def forget(out: Path) -> None:
    """Remove a training's checkpoints and log."""
    for name in (*CHECKPOINTS, LOG):
        (out / name).unlink(missing_ok=True)


def go_on(model: keras.Model, out: Path, steps: int) -> tuple[int, list[str]]:
    """Restore a compiled model from the last checkpoint in a folder, or from the previous one if that is damaged.

    Returns the number of finished epochs, of `steps` batches each (0 without a checkpoint), and notes on damage.
    """
    notes: list[str] = []
    values = next((found for name in (LAST, PREVIOUS) if (found := _read(model, out / name, notes))), None)
    if values is None:
        forget(out)  # the log may have a first epoch that was never saved
        return 0, notes + (["training begins anew"] if notes else [])
    _assign(_state(model), values)
    finish_weights(model)
    done = int(model.optimizer.iterations) // steps
    rows = [row for row in read_log(out / LOG) if int(row["epoch"]) < done]  # later ones have no checkpoint
    write_log(out, rows)
    if len(rows) < done:
        notes.append(f"{out / LOG}: lacks {done - len(rows)} epochs, which the learning curves leave out")
    if _read(model, out / BEST, notes) is None:
        notes.append(f"{out / BEST}: not there; the best epoch is chosen from those that come, or is the last one")
    return done, notes


def keep(model: keras.Model, path: Path) -> None:
    """Write a compiled model's weights and optimizer state to a checkpoint."""
    content = io.BytesIO()
    np.savez(content, *[np.asarray(variable) for variable in _state(model)])
    write_bytes(path, content.getvalue())


def take_best(model: keras.Model, out: Path) -> None:
    """Load the weights of the best epoch into a model; without them, it stays as it is."""
    values = _read(model, out / BEST, [])
    if values is not None:
        _assign(model.weights, values[: len(model.weights)])
        finish_weights(model)


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the rows of a training's log, one for each finished epoch; none if there is no log.

    If training was killed between an epoch's row and its checkpoint, the epoch has two rows: the later one counts.
    Damaged rows are left out.
    """
    if not is_there(path):
        return []
    text = read_bytes(path).decode(errors="replace")
    rows = csv.DictReader(io.StringIO(text.replace("\0", "")))
    return list({row["epoch"]: row for row in rows if _is_whole(row)}.values())


def _is_whole(row: dict[str, str]) -> bool:
    try:
        return int(row["epoch"]) >= 0 and all(math.isfinite(float(row[key])) for key in ("loss", "val_loss"))
    except (KeyError, TypeError, ValueError):
        return False


def write_log(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows of the log anew: a row appended to the file could be cut off by a full disk."""
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))  # rows of an earlier version have fewer
        write_table(out / LOG, [columns, *([row.get(column, "") for column in columns] for row in rows)])


def _state(model: keras.Model) -> list:
    return [*model.weights, *model.optimizer.variables]


def _assign(variables: list, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _read(model: keras.Model, path: Path, notes: list[str]) -> list[np.ndarray] | None:
    """Return the arrays of a checkpoint, or None if it is missing; a damaged or foreign one is removed, with a note."""
    shapes = [tuple(variable.shape) for variable in _state(model)]
    try:
        with open_regular(path) as file, np.load(file) as content:
            values = list(content.values())
        if [value.shape for value in values] != shapes:
            raise ValueError("it is of another network")
    except FileNotFoundError:
        return None
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        path.unlink()
        notes.append(f"{path}: checkpoint cannot be read ({line_of(error)}), and was removed")
        return None
    return values
