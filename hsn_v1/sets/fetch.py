"""Fetch the authors' archives: the later paper's from its Zenodo record, the first paper's from a drive.

No other host is asked. An interrupted download resumes where it ended, in this run or the next, and is compared with
the record's checksums. The drive's file has no known checksum: it is accepted if it is a complete archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .. import __version__
from ..errors import InputError, Notice
from ..file_names import file_name
from ..io.locks import alone_in
from ..io.reading import line_of, parse_json
from ..progress import Progress
from .unpack import check_room

ZENODO = "https://zenodo.org"
RECORD = "3902506"  #: Zenodo's record of IJCV 2020; it does not contain `hsn_data.zip`
DRIVE = "https://drive.google.com/uc?id=1jG1ojQKmvGjjjrRhCkaH0FDWM61tSgjL"
DRIVE_BYTES = 226_000_000

ADVICE = "try again tomorrow, or get it in a browser, and give its path"

#: Words in the names of the record's archives that may contain ADP: the exact names are not known here.
NEEDED = ("adp", "model", "database")

AGENT = f"hsn_v1/{__version__} (HistoSegNet; Python-urllib)"
CHUNK = 1 << 18  #: bytes that are read at once
SILENCE = 60  #: seconds without a byte after which a connection counts as cut
TRIES = 5  #: number of attempts in a row without a new byte
LONGEST_WAIT = 900  #: longest wait that a host may ask for, in seconds

Agree = Callable[[int, str], bool]  #: asks whether to fetch a number of bytes, of archives with these names

Result = TypeVar("Result")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a record: its name, its address, its size in bytes and its MD5, in hexadecimal digits."""

    name: str
    url: str
    size: int
    md5: str


class _TryAgainError(Exception):
    """An answer failed, perhaps for a short time only; `pause` is the wait in seconds that the host asks for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _SameHost(HTTPRedirectHandler):
    """Follows redirects within a host."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str) -> Any:
        with contextlib.closing(fp):
            _check_host(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = build_opener(_SameHost)


def fetch_record(folder: Path, agree: Agree, progress: Progress) -> tuple[list[Path], list[str]]:
    """Fetch the archives of Zenodo's record that may contain ADP into a folder; complete files there are kept.

    `agree` is called once, before anything is fetched. `progress` gets each file's name, its bytes so far, and all its
    bytes. Returns the archives, and the names of the record's other files. Raises InputError if there is no room,
    `agree` returns False, the host does not answer, or a file differs from the record.
    """
    files = _files_of_record()
    archives = [file for file in files if file.name.lower().endswith(".zip")]
    needed = [file for file in archives if any(word in file.name.lower() for word in NEEDED)] or archives
    if not needed:
        names = ", ".join(file.name for file in files) or "nothing"
        raise InputError(f"record {RECORD}: has no .zip but {names}; fetch and unpack it by hand, and give its folder")
    with alone_in(folder):
        missing = [file for file in needed if not _is_whole(folder / file.name, file)]
        size = sum(file.size for file in missing)
        check_room(folder, 2 * size - sum(_size(_part(folder, file)) for file in missing))  # and to unpack them
        if missing and not agree(size, ", ".join(file.name for file in missing)):
            raise InputError(f"{folder}: {size:,} bytes were not fetched, as nobody agreed; give `yes`")
        for file in missing:
            _download(file, folder, progress)
    return [folder / file.name for file in needed], [file.name for file in files if file not in needed]


def fetch_drive(folder: Path, quiet: bool = False) -> Path:
    """Fetch ``hsn_data.zip`` from the authors' drive into a folder, with `gdown`, which knows the drive's pages.

    Raises InputError if gdown is not installed, there is no room, or the drive sends no archive.
    """
    path = folder / "hsn_data.zip"
    if zipfile.is_zipfile(path):
        return path
    try:
        import gdown
    except ImportError:
        raise InputError(
            f"{path.name}: to fetch it takes gdown; pip install 'hsn_v1[fetch]' and run this command again, or get "
            f"{DRIVE} in a browser, and run hsn-v1 data {path.name}"
        ) from None
    check_room(folder, 2 * DRIVE_BYTES)
    with alone_in(folder):
        path.unlink(missing_ok=True)  # an existing file is no archive
        try:
            gdown.download(DRIVE, str(path), quiet=quiet, use_cookies=False, resume=True)
        except Exception as error:  # gdown's own, and of requests
            came = _page_kind(str(error))
            raise InputError(f"{DRIVE}: {came or 'no file'} came ({line_of(error)}); {ADVICE}") from error
        _check_archive(path)
    return path


def _check_archive(path: Path) -> None:
    """Raise InputError if a file is no archive, and remove it; the message says if a page came instead."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(1 << 16).decode(errors="replace")
        path.unlink()
        came = _page_kind(start) or "a file that is cut off, or no archive,"
        raise InputError(f"{path}: {came} came instead of it; {ADVICE}")


def _page_kind(text: str) -> str:
    """Name the kind of page that came instead of a file; "" if the text is no page."""
    pages = {
        "quota|too many users": "the drive's page on a quota that is used up",
        "virus": "the drive's virus warning",
        "<html|<!doctype html": "a page",
    }
    return next((name for words, name in pages.items() if re.search(words, text, re.IGNORECASE)), "")


# --- The record ------------------------------------------------------------------------------------------------------


def _files_of_record() -> list[RemoteFile]:
    url = f"{ZENODO}/api/records/{RECORD}"
    content = parse_json(_persistently(lambda: b"".join(chunk for _, chunk in _ask(url))), Path("Zenodo's record"))
    try:
        return [_remote_file(entry, url) for entry in content["files"]]
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{url}: not a record of files ({error!r}); try again later") from error


def _remote_file(entry: dict[str, Any], record: str) -> RemoteFile:
    name, (kind, _, digest) = entry["key"], entry["checksum"].partition(":")
    if file_name(name) != name:
        raise InputError(f"{record}: {name!r} is no name of a file; nothing was fetched")
    if kind != "md5":
        raise InputError(f"{record}: {name} has the checksum {entry['checksum']!r}, expected an MD5; try again later")
    url = entry.get("links", {}).get("self") or f"{record}/files/{quote(name)}/content"
    _check_host(url, record)
    return RemoteFile(name, url, int(entry["size"]), digest.lower())


def _check_host(url: str, source: str) -> None:
    asked, right = urlsplit(url), urlsplit(source)
    if (asked.scheme, asked.netloc) != (right.scheme, right.netloc):
        raise InputError(f"{source}: leads to another host, {asked.scheme}://{asked.netloc}, which is not asked")


# --- A file ----------------------------------------------------------------------------------------------------------


def _download(file: RemoteFile, folder: Path, progress: Progress) -> None:
    part = _part(folder, file)
    _persistently(partial(_receive, file, part, progress), partial(_size, part))
    if not _is_whole(part, file):
        part.unlink(missing_ok=True)
        raise InputError(f"{file.url}: what came is not what the record has the MD5 of, and was removed; try again")
    part.replace(folder / file.name)


def _receive(file: RemoteFile, part: Path, progress: Progress) -> None:
    """Append the missing bytes to a file, or begin it anew if the host sends the whole file."""
    if (done := _size(part)) >= file.size:
        return
    with part.open("ab") as stream:
        for place, chunk in _ask(file.url, done):
            if place == 0:
                stream.truncate(0)
            stream.write(chunk)
            stream.flush()
            progress(file.name, place + len(chunk), file.size)
            if place > file.size:
                return
    if _size(part) < file.size:
        raise _TryAgainError(f"{file.url}: the connection was cut")


def _part(folder: Path, file: RemoteFile) -> Path:
    return folder / f"{file.name}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_whole(path: Path, file: RemoteFile) -> bool:
    if _size(path) != file.size or not path.exists():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest() == file.md5


def _persistently(attempt: Callable[[], Result], size: Callable[[], int] = int) -> Result:
    """Return the result of `attempt`; after a failure wait and try again, up to `TRIES` times without a new byte."""
    failures, furthest = 0, size()
    while True:
        try:
            return attempt()
        except _TryAgainError as error:
            failures, furthest = failures + 1 if size() <= furthest else 1, max(size(), furthest)
            pause = 2.0 ** (failures - 1) if error.pause is None else error.pause
            if failures == TRIES or pause > LONGEST_WAIT:
                wait = f"in {pause / 60:.0f} minutes" if pause > LONGEST_WAIT else "later"
                raise InputError(f"{error}; run the same command again {wait}: it goes on where it ended") from error
            warnings.warn(Notice(f"{error}; trying again in {pause:.0f} s"), stacklevel=2)
            time.sleep(pause)


def _ask(url: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield each chunk of a file with its position, from `start` on, or from 0 if the host does not support that."""
    request = Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with _OPENER.open(request, timeout=SILENCE) as answer:
            if answer.status != 206:
                start = 0
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise InputError(f"{url}: another part came than was asked for; remove the .part file, and try again")
            while chunk := answer.read1(CHUNK):
                yield start, chunk
                start += len(chunk)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # the part is longer than the file
            yield from _ask(url)
        elif error.code == 429 or error.code >= 500:
            raise _TryAgainError(f"{url}: {error.code} {error.reason}", _pause(error.headers)) from error
        else:
            raise InputError(f"{url}: {error.code} {error.reason}; get it in a browser, and give its path") from error
    except (OSError, HTTPException) as error:
        raise _TryAgainError(f"{url}: {line_of(error)}") from error


def _pause(headers: HTTPMessage) -> float | None:
    """Return the wait in seconds that a host asks for; None if it does not say."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None
