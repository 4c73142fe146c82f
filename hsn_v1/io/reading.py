"""Files that anybody may have written: opened without waiting, regular, and of a bounded size."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError

#: What Pillow may read, whatever a file's name says: some of its other readers start programs.
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")

LONGEST = 64 << 20  #: bytes of a table, a record or another text


def is_there(path: Path) -> bool:
    """Return whether there is something by this name, and raise InputError if that cannot be seen."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    return True


def has_content(path: Path) -> bool:
    """Return whether there is a file by this name that is not empty, as a power cut may leave it."""
    return path.is_file() and path.stat().st_size > 0


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, without waiting; raise what `open` raises, and InputError if it is not regular."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for somebody to write to it
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: not a regular file, but a pipe or a device; give a file")
    return file


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; raise InputError if that fails, or the reading."""
    try:
        with open_regular(path) as file:
            yield file
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_bytes(path: Path, most: int = LONGEST) -> bytes:
    """Return the content of a regular file; raise InputError if it is none, is too long, or cannot be read."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: larger than {most:,} bytes, which such files never are; get the file again")
    return content


def read_text(path: Path, most: int = LONGEST, encoding: str = "utf-8") -> str:
    """Return the text of a file; errors are those of `read_bytes`, and what is no such text."""
    try:
        return read_bytes(path, most).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {encoding.upper()} text; save it as such") from error


def read_json(path: Path, most: int = LONGEST) -> Any:
    """Return what a JSON file holds; errors are those of `read_bytes`, and what is no JSON, or nested too deeply."""
    return parse_json(read_bytes(path, most), path)


def read_object(path: Path, most: int = LONGEST) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one if there is no such file, or it is damaged."""
    try:
        content = read_json(path, most)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def parse_json(content: bytes | str, source: Path) -> Any:
    """Return what a JSON text holds; raise InputError, which names the source, if it is none, or nested too deeply."""
    try:
        return json.loads(content if isinstance(content, str) else content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not a JSON file ({line_of(error)}); get the file again") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV with a header, by its columns; errors are those of `read_text`."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({line_of(error)})") from error


def line_of(error: Exception) -> str:
    """Return what an exception says, in one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
