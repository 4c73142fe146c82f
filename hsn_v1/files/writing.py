"""Files that are whole or not there: bytes, pictures and tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError


def check_writable(folder: Path) -> None:
    """Make a folder, and raise InputError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, renamed at the end: no half-written file is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that no half-written one is ever seen."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, without loss, in the format of the path's ending.

    Parameters
    ----------
    path : Path
    picture : ndarray of shape (H, W) or (H, W, 3), uint8
        Grey or RGB.
    """
    channels_reversed = picture[..., ::-1] if picture.ndim == 3 else picture
    _, encoded = cv2.imencode(path.suffix.lower(), channels_reversed)
    write_bytes(path, encoded.tobytes())


def remove_results_of_another_run(record: Path, facts: dict[str, Any], results: Iterable[Path]) -> None:
    """Make sure that what is in a folder was made in one way, so that what is there need not be made again.

    Parameters
    ----------
    record : Path
        JSON file of the facts that the folder's results were made with.
    facts : dict
        The same of the run that begins; of what JSON can hold.
    results : iterable of Path
        What is removed if the facts differ.
    """
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) == facts:
        return
    for path in results:
        path.unlink(missing_ok=True)
    write_bytes(record, json.dumps(facts, indent=1).encode())


def write_row(path: Path, row: dict[str, float]) -> None:
    """Write a table of one row, with a row index of 0 as the published code's users expect it."""
    write_table(path, [["", *row], [0, *row.values()]])


def write_table(path: Path, rows: Iterable[Sequence]) -> None:
    """Write a CSV file of rows, the header among them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())
