"""A training's folder: recipe, log and checkpoints, from which it goes on. What is damaged is thrown away, and said.

Checkpoints are arrays in a ``.npz``, made in memory: HDF5's library, which Keras writes with, crashes on a full disk.
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
    """Write down how a folder's training goes, or make sure that it goes on in the same way; return notes.

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
    """Give a compiled model what a folder's last checkpoint holds, or the one before if that is damaged.

    Returns how many epochs, of `steps` each, need not be trained again, 0 if there is no checkpoint; and what was
    damaged.
    """
    notes: list[str] = []
    values = next((found for name in (LAST, PREVIOUS) if (found := _read(model, out / name, notes))), None)
    if values is None:
        forget(out)  # of a first epoch that was never saved
        return 0, notes + (["training begins anew"] if notes else [])
    _assign(_state(model), values)
    finish_weights(model)
    done = int(model.optimizer.iterations) // steps
    rows = [row for row in read_log(out / LOG) if int(row["epoch"]) < done]  # others were logged and never saved
    write_log(out, rows)
    if len(rows) < done:
        notes.append(f"{out / LOG}: lacks {done - len(rows)} epochs, which the learning curves leave out")
    if _read(model, out / BEST, notes) is None:
        notes.append(f"{out / BEST}: not there; the best epoch is chosen from those that come, or is the last one")
    return done, notes


def keep(model: keras.Model, path: Path) -> None:
    """Write a compiled model's weights and its optimizer's state."""
    content = io.BytesIO()
    np.savez(content, *[np.asarray(variable) for variable in _state(model)])
    write_bytes(path, content.getvalue())


def take_best(model: keras.Model, out: Path) -> None:
    """Give a model the weights of its best epoch, if they are there; else it stays as it is."""
    values = _read(model, out / BEST, [])
    if values is not None:
        _assign(model.weights, values[: len(model.weights)])
        finish_weights(model)


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the rows of a training's log, one for each finished epoch; none if there is no log.

    An epoch stands there twice if training was killed when it was logged and not yet saved: the later row counts. What
    is damaged is left out.
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
    """Write a row for each epoch, all anew: a row that is added may be cut off when the disk is full."""
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))  # an earlier version's rows have fewer
        write_table(out / LOG, [columns, *([row.get(column, "") for column in columns] for row in rows)])


def _state(model: keras.Model) -> list:
    return [*model.weights, *model.optimizer.variables]


def _assign(variables: list, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _read(model: keras.Model, path: Path, notes: list[str]) -> list[np.ndarray] | None:
    """Return what a checkpoint holds, if it is there and fits a model; one that is damaged is removed, and noted."""
    shapes = [tuple(variable.shape) for variable in _state(model)]
    try:
        with open_regular(path) as file, np.load(file) as content:
            values = list(content.values())
        if [value.shape for value in values] != shapes:
            raise ValueError("it is of another network")
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever NumPy and its reader of archives meet in a damaged file
        path.unlink()
        notes.append(f"{path}: checkpoint cannot be read ({line_of(error)}), and was removed")
        return None
    return values
