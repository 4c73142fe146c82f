"""Locks: a folder belongs to one run at a time, on one machine or on several that share a file system.

The holder's file in the folder names the holder, who touches it every few seconds. A holder that is dead, or
unresponsive for a minute, loses its lock. Ages are measured by the file system's own clock, so that machines need not
agree on the time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from ..errors import InputError
from ..file_names import file_name
from .reading import read_object
from .writing import check_writable, kept_if_used, remove_leftovers, retried

FILE = ".claim"
LONGEST = 1 << 16  #: greatest size of a lock's file, in bytes
BEAT = 10.0  #: seconds between two signs of life
PATIENCE = 60.0  #: seconds without a sign of life after which a holder on another machine counts as dead

_read = partial(read_object, most=LONGEST)


class LockedError(InputError):
    """The folder is locked by another run."""


@dataclass(frozen=True)
class Lock:
    """A lock that this run holds on a folder: the lock's file, and a unique key.

    `lost` is set once another run turns out to have taken the folder, as this run was unresponsive for too long.
    """

    path: Path
    key: str
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise LockedError if another run has taken the folder, and owns the files there."""
        if self.lost.is_set() or _read(self.path).get("owner") != self.key:
            self.lost.set()
            holder = _name(_read(self.path))
            raise LockedError(f"{self.path.parent}: was taken by {holder}, as this run did not respond")


@contextlib.contextmanager
def locked(folder: Path, subject: Path | None = None, advice: str = "choose another `out`") -> Iterator[Lock]:
    """Lock a folder until the end of the ``with`` block, or raise LockedError, which names the run that holds it.

    The folder and its parents are made if need be, and removed if they stay empty. In messages, `subject` stands for
    the folder (itself, if left out), and `advice` is the alternative to waiting.
    """
    lock, done = Lock(folder / FILE, uuid.uuid4().hex), threading.Event()
    heart = threading.Thread(target=_live, args=(lock, done), name="lock", daemon=True)
    with kept_if_used(folder):
        try:  # from here on, as Ctrl-C may come at any moment
            _take(lock, f"{subject or folder}", advice)
            heart.start()
            yield lock
        finally:
            done.set()
            if heart.ident:
                heart.join()
            if not lock.lost.is_set():
                _release(lock)


def locked_name(folder: Path, name: str, advice: str = "choose another `name`") -> AbstractContextManager[Lock]:
    """Lock a name, such as a model's or a slide's, in a folder that several runs share; otherwise like `locked`."""
    return locked(folder / f".{file_name(name)}.claim", subject=folder / name, advice=advice)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[Lock]:
    """Lock a folder that a command writes to, and clear it of half-written files of killed runs.

    Raises LockedError if another run holds it, and InputError if nothing can be written there.
    """
    with locked(folder) as lock:
        check_writable(folder)
        remove_leftovers(folder)
        yield lock


def is_locked(folder: Path) -> bool:
    """Tell whether a run holds a folder, as far as can be seen without writing there.

    Clocks of other machines may differ, so a holder there counts as dead only after ten times `PATIENCE` without a sign
    of life.
    """
    holder = _read(folder / FILE)
    if holder.get("host") == socket.gethostname():
        return _began(holder.get("pid")) == holder.get("began")
    with contextlib.suppress(OSError):
        return bool(holder) and time.time() - (folder / FILE).stat().st_mtime < 10 * PATIENCE
    return False


def _take(lock: Lock, subject: str, advice: str) -> None:
    while not _create(lock, subject):
        if not (holder := _read(lock.path)):  # damaged, or, without hard links, not yet written
            time.sleep(0.1)
            holder = _read(lock.path)
        if holder and not _is_dead(lock.path, holder):
            raise LockedError(f"{subject}: {_name(holder)} is working there; wait for its end, or {advice}")
        _take_away(lock.path, holder.get("owner"))


def _create(lock: Lock, subject: str) -> bool:  # False if the lock's file exists; it is never seen half-written
    me = {"owner": lock.key, "host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}
    temporary = lock.path.with_name(f"{FILE}.{lock.key}")
    try:
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(me), encoding="utf-8")
        _link(temporary, lock.path)
    except (FileExistsError, FileNotFoundError):  # another run holds the lock, or has removed the folder
        if not lock.path.parent.is_dir() and lock.path.parent.exists():
            raise InputError(f"{subject}: is a file, expected a folder; choose another one") from None
        return False
    except OSError as error:
        raise InputError(f"{subject}: cannot be written to ({error.strerror}); choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except (OSError, AttributeError):  # no hard links, as on exFAT and network shares: errors differ by file system
        with target.open("xb") as file:
            file.write(source.read_bytes())


def _live(lock: Lock, done: threading.Event) -> None:
    while not done.wait(BEAT):
        if _read(lock.path).get("owner") != lock.key:
            lock.lost.set()
            return
        with contextlib.suppress(OSError):
            os.utime(lock.path)


def _name(holder: dict) -> str:
    return f"another run (process {holder.get('pid', '?')} on {holder.get('host', '?')})"


def _is_dead(path: Path, holder: dict) -> bool:
    if holder.get("host") == socket.gethostname():
        return _began(holder.get("pid")) != holder.get("began")
    return _age(path) > PATIENCE


def _age(path: Path) -> float:
    """Return the seconds since a file was touched, by the file system's clock; infinity if it is gone."""
    clock = path.with_name(f"{FILE}.{uuid.uuid4().hex}")
    try:
        clock.touch()  # its time stamp is the file system's present
        return clock.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
    finally:
        clock.unlink(missing_ok=True)


def _release(lock: Lock) -> None:
    folder = lock.path.parent
    if _read(lock.path).get("owner") != lock.key:
        return
    with contextlib.suppress(OSError):
        latest = lock.path.stat().st_mtime - PATIENCE
        for stale in folder.glob(f"{FILE}.*"):  # left by killed runs
            if stale.stat().st_mtime < latest:
                stale.unlink()
    _remove(lock.path, lock.key)
    with contextlib.suppress(OSError):  # it has files
        folder.rmdir()


def _take_away(path: Path, key: str | None) -> None:
    """Remove a dead holder's lock. Only one run at a time may try: else runs would remove each other's new locks."""
    turn = path.with_name(f"{FILE}.over.{file_name(str(key))}")
    try:
        turn.touch(exist_ok=False)
    except FileExistsError:
        if _age(turn) > PATIENCE:  # the run whose turn it was died, too
            turn.unlink(missing_ok=True)
        time.sleep(0.05)
        return
    except FileNotFoundError:  # the folder was removed meanwhile
        return
    try:
        _remove(path, key)
    finally:
        turn.unlink(missing_ok=True)


def _began(pid: object) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return None


def _remove(path: Path, key: str | None) -> None:
    """Remove a lock's file if it has this key (None: the file is damaged). If two runs try, only one succeeds."""
    taken = path.with_name(f"{FILE}.{uuid.uuid4().hex}")
    if not path.exists() or _read(path).get("owner") != key:
        return
    try:
        retried(path.rename, taken)
    except FileNotFoundError:
        return
    if _read(taken).get("owner") != key:  # a new holder's, who came in between
        with contextlib.suppress(FileExistsError):
            _link(taken, path)
    taken.unlink()
