"""Claims: a folder belongs to one run at a time, on one machine or on several that share a file system.

The owner's file in the folder says who it is, and is touched every few seconds. An owner that is dead, or silent for a
minute, loses its claim. Ages are those that the file system's own clock gives, so that machines need not agree on the
time.
"""

from __future__ import annotations

import contextlib
import errno
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
from pathlib import Path

import psutil

from ..errors import InputError
from .writing import check_writable, remove_leftovers

FILE = ".claim"
BEAT = 10.0  #: seconds between two signs of life
SILENCE = 60.0  #: seconds without one after which an owner on another machine counts as dead


class ClaimedError(InputError):
    """Another run works here."""


@dataclass(frozen=True)
class Claim:
    """A folder that belongs to this run as long as the claim is held.

    Attributes
    ----------
    path : Path
        The claim's file.
    owner : str
        Another one for each claim.
    lost : threading.Event
        Set when another run was found to have taken the folder, as this one was silent for too long.
    """

    path: Path
    owner: str
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise ClaimedError if another run has taken the folder: what is there now is that run's."""
        if self.lost.is_set() or _read(self.path).get("owner") != self.owner:
            self.lost.set()
            raise ClaimedError(f"{self.path.parent}: was taken by {_name(_read(self.path))}, as this run was silent")


@contextlib.contextmanager
def claimed(
    folder: Path,
    beat: float = BEAT,
    silence: float = SILENCE,
    what: Path | None = None,
    other: str = "choose another --out",
) -> Iterator[Claim]:
    """Hold a folder until the end of the ``with`` block; it is made if need be, and removed if it is left empty.

    Parameters
    ----------
    folder : Path
    beat : float
        Seconds between two signs of life.
    silence : float
        Seconds without one after which an owner on another machine counts as dead.
    what : Path, optional
        What the folder stands for, in messages; itself, if left out.
    other : str
        What a run that finds it held can do instead of waiting.

    Raises
    ------
    ClaimedError
        If another run holds the folder; says which.
    """
    claim, done = Claim(folder / FILE, uuid.uuid4().hex), threading.Event()
    heart = threading.Thread(target=_live, args=(claim, beat, done), name="claim", daemon=True)
    try:  # from here on: Ctrl-C may come at any moment
        _take(claim, silence, f"{what or folder}", other)
        heart.start()
        yield claim
    finally:
        done.set()
        if heart.ident:
            heart.join()
        if not claim.lost.is_set():
            _give_up(claim, silence)


def claimed_name(folder: Path, name: str, other: str = "choose another --name") -> AbstractContextManager[Claim]:
    """Hold a name in a folder where several runs may write: a model's, a slide's.

    Parameters
    ----------
    folder : Path
    name : str
    other : str
        What a run that finds it held can do instead of waiting.

    Raises
    ------
    ClaimedError
        If another run holds the name; says which.
    """
    return claimed(folder / f".{name}.claim", what=folder / name, other=other)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[Claim]:
    """Hold a folder that a command writes to, once it is free of what killed runs left half-written.

    Raises
    ------
    ClaimedError
        If another run holds the folder; says which.
    InputError
        If nothing can be written there.
    """
    with claimed(folder) as claim:
        check_writable(folder)
        remove_leftovers(folder)
        yield claim


def is_claimed(folder: Path) -> bool:
    """Tell whether a run holds a folder, as far as can be seen without writing there.

    Of owners on other machines, whose clocks may differ, those count as dead that were silent for many times SILENCE.
    """
    holder = _read(folder / FILE)
    if holder.get("host") == socket.gethostname():
        return _began(holder.get("pid")) == holder.get("began")
    with contextlib.suppress(OSError):
        return bool(holder) and time.time() - (folder / FILE).stat().st_mtime < 10 * SILENCE
    return False


def _take(claim: Claim, silence: float, what: str, other: str) -> None:
    while not _create(claim, what):
        holder = _read(claim.path)
        if holder and not _is_dead(claim.path, holder, silence):
            raise ClaimedError(f"{what}: {_name(holder)} is working there; wait for its end, or {other}")
        _take_away(claim.path, holder.get("owner"), silence)


def _create(claim: Claim, what: str) -> bool:
    """Write the claim's file whole, unless there is one."""
    me = {"owner": claim.owner, "host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}
    temporary = claim.path.with_name(f"{FILE}.{claim.owner}")
    try:
        claim.path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(me), encoding="utf-8")
        _link(temporary, claim.path)
    except (FileExistsError, FileNotFoundError):  # another's claim, or another that gave up the folder
        if not claim.path.parent.is_dir() and claim.path.parent.exists():
            raise InputError(f"{what}: is a file, expected a folder; choose another one") from None
        return False
    except OSError as error:
        raise InputError(f"{what}: cannot be written to ({error.strerror}); choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, unless that is taken."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        with target.open("xb") as file:  # a file system without hard links, such as exFAT
            file.write(source.read_bytes())


def _live(claim: Claim, beat: float, done: threading.Event) -> None:
    while not done.wait(beat):
        if _read(claim.path).get("owner") != claim.owner:
            claim.lost.set()
            return
        with contextlib.suppress(OSError):
            os.utime(claim.path)


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _name(holder: dict) -> str:
    return f"another run (process {holder.get('pid', '?')} on {holder.get('host', '?')})"


def _is_dead(path: Path, holder: dict, silence: float) -> bool:
    if holder.get("host") == socket.gethostname():
        return _began(holder.get("pid")) != holder.get("began")
    return _age(path) > silence


def _age(path: Path) -> float:
    """Return the seconds since a file was touched, by the file system's clock; endless if it is gone."""
    clock = path.with_name(f"{FILE}.{uuid.uuid4().hex}")
    try:
        clock.touch()  # its time is what the file system calls now
        return clock.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
    finally:
        clock.unlink(missing_ok=True)


def _give_up(claim: Claim, silence: float) -> None:
    folder = claim.path.parent
    if _read(claim.path).get("owner") != claim.owner:
        return
    with contextlib.suppress(OSError):
        latest = claim.path.stat().st_mtime - silence
        for stale in folder.glob(f"{FILE}.*"):  # of runs that were killed in between
            if stale.stat().st_mtime < latest:
                stale.unlink()
    _remove(claim.path, claim.owner)
    with contextlib.suppress(OSError):  # it has files
        folder.rmdir()


def _take_away(path: Path, owner: str | None, silence: float) -> None:
    """Remove the claim of a dead owner. Of several that try, one may: else they would remove each other's claims."""
    turn = path.with_name(f"{FILE}.over.{owner}")
    try:
        turn.touch(exist_ok=False)
    except FileExistsError:
        if _age(turn) > silence:  # who had the turn died, too
            turn.unlink(missing_ok=True)
        time.sleep(0.05)
        return
    except FileNotFoundError:  # the folder was given up meanwhile
        return
    try:
        _remove(path, owner)
    finally:
        turn.unlink(missing_ok=True)


def _began(pid: object) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, TypeError, ValueError):
        return None


def _remove(path: Path, owner: str | None) -> None:
    """Remove a claim's file if it is of this owner; of two that try, one does. A damaged file has no owner."""
    taken = path.with_name(f"{FILE}.{uuid.uuid4().hex}")
    if not path.exists() or _read(path).get("owner") != owner:
        return
    try:
        path.rename(taken)
    except FileNotFoundError:
        return
    if _read(taken).get("owner") != owner:  # a new owner's, that came in between
        with contextlib.suppress(FileExistsError):
            _link(taken, path)
    taken.unlink()
