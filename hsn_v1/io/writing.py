"""Files that are whole or not there: bytes, pictures and tables."""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import io
import os
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil

from ..errors import InputError

PAUSES = (0.05, 0.1, 0.2, 0.4)  #: seconds between tries to rename a file
HOST = f"{zlib.crc32(os.fsencode(socket.gethostname())):08x}"  #: this machine, in the names of temporary files


def check_writable(folder: Path) -> None:
    """Make a folder, and raise InputError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error


@contextlib.contextmanager
def kept_if_used(folder: Path) -> Iterator[None]:
    """Remove a folder in the end, and those around it, if they were not there before and are empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in new:
            with contextlib.suppress(OSError):  # it has files
                path.rmdir()


@contextlib.contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """Give a temporary name in the folder of `path` to write to, and rename it when it is whole and on the disk.

    Without `flush`, it is on the disk when the system likes: for files that are soon made again if power fails.
    """
    temporary = _temporary(path)
    with _naming(path, temporary), _discarding(temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if flush:
            _flush(temporary)
        retried(temporary.replace, path)
        if flush:
            _flush_folder(path.parent)


def write_bytes(path: Path, content: bytes, flush: bool = True) -> None:
    """Write a file so that no half-written one is ever seen; for `flush`, see `replacing`."""
    with replacing(path, flush) as temporary:
        temporary.write_bytes(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder that belong together: all are new, or none is, or the first one is missing.

    The first is removed while the others change, so that after a death at any moment a reader that needs all of them
    finds old files, new files, or an error, and never a mixture.
    """
    first, *others = contents
    temporary = {path: _temporary(path) for path in contents}
    with _discarding(*temporary.values()):
        first.parent.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            with _naming(path, temporary[path]):
                temporary[path].write_bytes(content)
                _flush(temporary[path])
        retried(first.unlink, True)  # if it is there
        _flush_folder(first.parent)
        for path in (*others, first):
            retried(temporary[path].replace, path)
            _flush_folder(path.parent)


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Have errors name the file, and not its temporary name or, as when a disk is full, none."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def retried(change: Callable, *arguments: object) -> None:
    """Rename or remove a file; try for a second, as on Windows nobody may while a virus scanner reads it."""
    for pause in PAUSES:
        try:
            return change(*arguments)
        except PermissionError:
            time.sleep(pause)
    return change(*arguments)


@contextlib.contextmanager
def _discarding(*temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in temporary:
            with contextlib.suppress(OSError):  # what went wrong before is what counts
                path.unlink()
        raise


def _temporary(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > 200:  # no room for more in a file's name
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{HOST}.{os.getpid()}.part")


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what runs that were killed on this machine left half-written; what others write now is left alone.

    With a name: the files in this folder whose names begin so; without it, all in it and below.
    """
    begin = "**/.*" if name is None else f".{glob.escape(name)}*"
    for path in folder.glob(f"{begin}.{HOST}.*.part"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:  # else a power cut may leave it empty after it was renamed
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_picture(path: Path, picture: np.ndarray, flush: bool = True) -> None:
    """Write a picture, grey (H, W) or RGB (H, W, 3) uint8, without loss, in the format of the path's ending."""
    channels_reversed = picture[..., ::-1] if picture.ndim == 3 else picture
    _, encoded = cv2.imencode(path.suffix.lower(), channels_reversed)
    write_bytes(path, encoded.tobytes(), flush)


def write_row(path: Path, row: dict[str, float]) -> None:
    """Write a table of one row, with a row index of 0 as the published code's users expect it."""
    write_table(path, [["", *row], [0, *row.values()]])


def write_table(path: Path, rows: Iterable[Sequence]) -> None:
    """Write a CSV file of rows, the header among them; see `csv_of`."""
    write_bytes(path, csv_of(rows))


def csv_of(rows: Iterable[Sequence]) -> bytes:
    r"""Return rows as a CSV file has them.

    Words that a spreadsheet would take for a formula begin with an apostrophe, and what is not Unicode in them is
    written as ``\udc..``: names of files can be anything.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value
