"""Read untrusted files: only regular ones, without waiting, and up to a bounded size."""

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

#: Formats that Pillow may read, whatever a file's name says: some of its other readers start programs.
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")

LONGEST = 64 << 20  #: greatest size of a table, a record or another text, in bytes


def is_there(path: Path) -> bool:
    """Tell whether a path exists; raise InputError if that cannot be determined."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    return True


def no_folder(path: Path) -> str:
    """Return why a path leads to no folder, for messages."""
    return "no folder, but a file" if os.path.isfile(path) else "no such folder"


def has_content(path: Path) -> bool:
    """Tell whether a path is a file that is not empty; a power cut may leave empty files."""
    return path.is_file() and path.stat().st_size > 0


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, without waiting. Raises the errors of `open`, and InputError if it is not regular."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for somebody to write to it
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: not a regular file, but a pipe or a device; give a file")
    return file


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; raise InputError if opening or reading fails."""
    try:
        with open_regular(path) as file:
            yield file
    except InputError:
        raise
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, expected a file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_bytes(path: Path, most: int = LONGEST) -> bytes:
    """Return the content of a regular file; raise InputError if it is not regular, too long or unreadable."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: larger than {most:,} bytes, which such files never are; get the file again")
    return content


def read_text(path: Path, most: int = LONGEST, encoding: str = "utf-8") -> str:
    """Return the text of a file. Raises InputError as `read_bytes` does, or if the encoding does not fit."""
    try:
        return read_bytes(path, most).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {encoding.upper()} text; save it as such") from error


def read_json(path: Path, most: int = LONGEST) -> Any:
    """Return the content of a JSON file. Raises InputError as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, most), path)


def read_object(path: Path, most: int = LONGEST) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if the file is missing or damaged."""
    try:
        content = read_json(path, most)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def parse_json(content: bytes | str, source: Path) -> Any:
    """Parse a JSON text; raise InputError, which names the source, if it is invalid or nested too deeply."""
    try:
        return json.loads(content if isinstance(content, str) else content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not a JSON file ({line_of(error)}); get the file again") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, each by column. Raises InputError as `read_text` does."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({line_of(error)})") from error


def line_of(error: Exception) -> str:
    """Return an exception's message, or its type, in one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
