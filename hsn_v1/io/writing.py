"""Write files atomically, whole or not at all: bytes, pictures and tables."""

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
HOST = f"{zlib.crc32(os.fsencode(socket.gethostname())):08x}"  #: digest of this machine's name, for temporary files


def check_writable(folder: Path) -> None:
    """Make a folder, and raise InputError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error


@contextlib.contextmanager
def kept_if_used(folder: Path) -> Iterator[None]:
    """Remove a folder and its parents at the end of the ``with`` block, if they are new and empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in new:
            with contextlib.suppress(OSError):  # it has files
                path.rmdir()


@contextlib.contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; rename it to `path` when the file is whole and on the disk.

    Without `flush`, the system chooses when to write to the disk: for files that are soon made again after a power cut.
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
    """Write a file atomically: no reader ever sees it half-written. For `flush`, see `replacing`."""
    with replacing(path, flush) as temporary:
        temporary.write_bytes(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder that belong together: all are new, or none is, or the first one is missing.

    The first file is removed while the others change. A reader that needs all of them then finds old files, new files
    or an error, never a mixture, even if this process is killed at any moment.
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
    """Make errors name the file, instead of its temporary name or, as on a full disk, no name."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def retried(change: Callable, *arguments: object) -> None:
    """Rename or remove a file; retry for a second, since Windows refuses while a virus scanner reads it."""
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
            with contextlib.suppress(OSError):  # the first error is the one to raise
                path.unlink()
        raise


def _temporary(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > 200:  # a longer name might not fit
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{HOST}.{os.getpid()}.part")


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove half-written files of runs that were killed on this machine; files that are being written are kept.

    With `name`, only files in this folder whose names begin with it; without, all files in the folder and below.
    """
    begin = "**/.*" if name is None else f".{glob.escape(name)}*"
    for path in folder.glob(f"{begin}.{HOST}.*.part"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:  # else a power cut may leave the file empty after it was renamed
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
    """Write a table of one row, with a row index of 0, as users of the published code expect."""
    write_table(path, [["", *row], [0, *row.values()]])


def write_table(path: Path, rows: Iterable[Sequence]) -> None:
    """Write a CSV file of rows, the header among them; see `csv_of`."""
    write_bytes(path, csv_of(rows))


def csv_of(rows: Iterable[Sequence]) -> bytes:
    r"""Return rows as the bytes of a CSV file.

    Text that a spreadsheet would take for a formula gets an apostrophe in front. Parts that are not Unicode, as file
    names may have, are written as ``\udc..``.
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
