"""Put the authors' download in place.

Archives come from elsewhere, so nothing in them is trusted. All members are checked before anything is written.
Missing files are unpacked into a folder of their own, and moved into place only when all are complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO

from ..errors import InputError
from ..io import tree
from ..io.locks import locked
from ..io.reading import line_of

RUBBISH = {".DS_Store", "Thumbs.db", "desktop.ini"}  #: files that desktops leave in folders

#: Largest size of an honest archive when unpacked: in bytes, and as a multiple of its own size.
MAX_BYTES, MAX_RATIO = 4 << 30, 200

CHUNK = 1 << 20  #: bytes that are read at once

BESIDE = ".hsn_data"  #: folder in ROOT that files are unpacked to

#: Iterates over items, and may show progress: ``track(items, description)``.
Track = Callable[[list, str], Iterable]


def untracked(items: list, description: str) -> Iterable:
    """Return the items; show no progress."""
    return items


@dataclass(frozen=True)
class Member:
    """A file of the download."""

    name: str  #: path in the download; from `find_members`, the path below ROOT
    size: int  #: size in bytes
    open: Callable[[], IO[bytes]]  #: opens it for reading
    flaw: str = ""  #: reason why it cannot be accepted; empty if it can


@dataclass(frozen=True)
class Installed:
    """Names of the download's files: placed, unchanged or skipped by `install`."""

    placed: tuple[str, ...]
    unchanged: tuple[str, ...]  #: were in place already
    skipped: tuple[str, ...]  #: are not needed


def find_members(source: zipfile.ZipFile | Path) -> tuple[list[Member], list[str]]:
    """Check the download: return the files to put in place, and the names of the others, which are not needed.

    The download is an archive or a folder, with ``data``, ``gt`` and ``img``, or with the folders of the later paper's
    record (see `tree.place_of`), or with one folder around them. Raises InputError if a path leads out, a file is not a
    regular one or comes twice, no file is needed, or the archive would grow too large.
    """
    is_archive = isinstance(source, zipfile.ZipFile)
    where = Path(source.filename) if is_archive else source
    files = [(_parts(where, member), member) for member in (_archived(source) if is_archive else _lying_in(source))]
    files = _without_outer_folder([(parts, member) for parts, member in files if not _is_rubbish(parts)])
    members, seen, skipped = [], {}, set()
    for parts, member in files:
        place = tree.place_of(parts)
        if place is None:
            skipped.add("/".join(parts[: 1 + (parts[0] in tree.DOWNLOADED)]))
            continue
        if flaw := member.flaw or ("is a file, expected a folder" if len(parts) == 1 else ""):
            raise InputError(f"{where}: {member.name!r} {flaw}; get the authors' archive")
        if (key := "/".join(place).casefold()) in seen:  # some file systems ignore case
            raise InputError(f"{where}: {member.name!r} comes twice, also as {seen[key]!r}; get the authors' archive")
        seen[key] = member.name
        members.append(replace(member, name="/".join(place)))
    if not members:
        raise InputError(
            f"{where}: no files in data, gt or img; expected the authors' hsn_data.zip, an archive of their record "
            "with something of ADP, or its folder"
        )
    if is_archive:
        _check_growth(where, members)
    return members, sorted(skipped)


def _without_outer_folder(files: list[tuple[tuple[str, ...], Member]]) -> list[tuple[tuple[str, ...], Member]]:
    """Drop one folder around all files from their paths; this folder may itself be called `data`."""
    tops = {parts[0] for parts, _ in files}
    around = {parts[0] for parts, _ in files if len(parts) > 2 and parts[1] in tree.DOWNLOADED}
    if len(around) == 1 and (around == tops or not tops & tree.DOWNLOADED):
        return [(parts[1:] if parts[0] in around else parts, member) for parts, member in files]
    return files


def _archived(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if not info.is_dir():  # a folder is made when a file needs it
            flaw = "is encrypted, expected an open file" if info.flag_bits & 1 else _flaw(info.external_attr >> 16)
            yield Member(info.filename, info.file_size, partial(archive.open, info), flaw)


def _lying_in(folder: Path) -> Iterator[Member]:
    os.scandir(folder).close()  # raises if the folder cannot be read, which `rglob` ignores
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            status = path.lstat()
            name = path.relative_to(folder).as_posix()
            yield Member(name, status.st_size, partial(path.open, "rb"), _flaw(status.st_mode))


def _flaw(mode: int) -> str:
    kind = stat.S_IFMT(mode)  # 0 in archives made on Windows
    return "" if kind in (0, stat.S_IFREG) else "is a link or a device, expected a plain file"


def _parts(where: Path, member: Member) -> tuple[str, ...]:
    path = PureWindowsPath(member.name)  # knows both slashes, and drives
    if path.anchor or ".." in path.parts or not path.parts:
        raise InputError(f"{where}: {member.name!r} leads out of the folder to unpack to; get the authors' archive")
    return path.parts


def _is_rubbish(parts: tuple[str, ...]) -> bool:
    return parts[0] == "__MACOSX" or parts[-1] in RUBBISH or parts[-1].startswith("._")


def _check_growth(where: Path, members: list[Member]) -> None:
    total = sum(member.size for member in members)
    if total > min(MAX_BYTES, MAX_RATIO * where.stat().st_size):
        largest = max(members, key=lambda member: member.size)
        raise InputError(
            f"{where}: would grow to {total:,} bytes ({largest.name!r} alone to {largest.size:,}), expected at most "
            f"{MAX_BYTES:,}, and {MAX_RATIO} times the archive; get the authors' archive"
        )


def install(source: Path, root: Path, force: bool = False, track: Track = untracked) -> Installed:
    """Put the download, an archive or the folder it was unpacked to, in place below a root.

    Equal files stay as they are; `force` replaces files that differ from the download's. Raises InputError if the
    download is broken or hostile, files in its place differ, or the root cannot be written to. No half-written file is
    left behind.
    """
    try:
        with _opened(source) as content:
            members, skipped = find_members(content)
            in_place = {m.name: _is_there(m, root) for m in track(members, "comparing")}
            new = [member for member in members if not in_place[member.name]]
            if (old := [root / m.name for m in new if (root / m.name).exists()]) and not force:
                more = f" and {len(old) - 1} more files" if len(old) > 1 else ""
                raise InputError(f"{old[0]}{more}: not the same as in {source}; move it away, or use `force`")
            check_room(root, sum(member.size for member in new))
            with locked(root / BESIDE, subject=root, advice="choose another `root`"), _emptied(root / BESIDE) as beside:
                for member in track(new, "unpacking"):
                    _unpack(member, beside / member.name)
                for member in new:
                    (root / member.name).parent.mkdir(parents=True, exist_ok=True)
                    (beside / member.name).replace(root / member.name)
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror or error}"
        raise InputError(f"{what}; the download cannot be put there: make room, or choose another `root`") from error
    placed, unchanged = (tuple(name for name, same in in_place.items() if same is wanted) for wanted in (False, True))
    return Installed(placed, unchanged, tuple(skipped))


def check_room(folder: Path, size: int) -> None:
    """Raise InputError if the disk of a folder, which need not exist yet, has less than `size` bytes free."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if (free := shutil.disk_usage(existing).free) < size:
        raise InputError(f"{folder}: {free:,} bytes are free, {size:,} are needed; make room, or choose another `root`")


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """Yield a folder to unpack to; empty it before, after a killed call, and at the end."""
    with contextlib.ExitStack() as at_end:
        for name in tree.TOPS:
            shutil.rmtree(folder / name, ignore_errors=True)
            at_end.callback(shutil.rmtree, folder / name, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile | Path]:
    if source.is_dir():
        yield source
    elif source.exists():
        with _readable(source):
            archive = zipfile.ZipFile(source)
        with archive:
            yield archive
    else:
        raise InputError(f"{source}: no such file; expected the authors' hsn_data.zip, or the folder it unpacks to")


@contextlib.contextmanager
def _readable(what: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile raises many kinds of errors for broken files
        raise InputError(f"{what}: cannot be read ({line_of(error)}); get the authors' download again") from error


def _chunks(member: Member) -> Iterator[bytes]:
    """Read a member; zipfile compares sizes and checksums on the way."""
    with _readable(member.name), member.open() as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _is_there(member: Member, root: Path) -> bool:
    """Tell whether an equal file is in place. Raises InputError if the member could not be put there."""
    target = root / member.name
    if not target.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{target}: leads out of {root} by a link; put a folder there, or choose another `root`")
    nearest = next(path for path in (target, *target.parents) if path.exists())
    if nearest.is_dir() is (nearest == target):
        wrong, right = ("a folder", "a file") if nearest == target else ("a file", "a folder")
        raise InputError(f"{nearest}: is {wrong}, expected {right}; move it away, or choose another `root`")
    if nearest != target or target.stat().st_size != member.size:
        return False
    with target.open("rb") as file:
        return all(chunk == file.read(len(chunk)) for chunk in _chunks(member))


def _unpack(member: Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in _chunks(member):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut may leave an empty file in place
    if path.stat().st_size != member.size:
        raise InputError(f"{member.name}: {path.stat().st_size} bytes, expected {member.size}; get the archive again")
