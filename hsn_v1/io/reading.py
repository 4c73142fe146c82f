"""Files of unknown origin, opened with care."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

#: What Pillow may read, whatever a file's name says: some of its other readers start programs.
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")


def is_there(path: Path) -> bool:
    """Return whether there is something by this name, and raise InputError if that cannot be seen."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    return True


def has_content(path: Path) -> bool:
    """Return whether there is a file by this name that is not empty, as a power cut may leave it."""
    return path.is_file() and path.stat().st_size > 0


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most so many bytes, or raise InputError."""
    with opened(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(f"{path}: not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: larger than {most:,} bytes, which such files never are; get the file again")
    return content


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, without waiting, and raise InputError if that or the reading fails."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for somebody to write to it


def line_of(error: Exception) -> str:
    """Return what an exception says, in one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
