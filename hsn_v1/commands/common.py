"""Shared parts of all commands: exit statuses, messages on the screen, and default data."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

from ..errors import InputError, Notice
from ..keras_start import narrow_memory

#: Characters in file names that would break a line or control the terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Bytes of address space below which NumPy's libraries may hang.
LEAST_ADDRESS_SPACE = 1_000_000_000

#: The authors' classifier.
OFFICIAL_MODEL = "histonet_X1.7_clrdecay_5"

#: Image sets of phantoms, by kind.
PHANTOM_SETS = {"patch": "01_phantom_patch", "glas": "02_phantom_glas"}

#: Classifiers that were trained on phantoms: the second on smaller patches, which suits glands.
PHANTOM_MODEL, PHANTOM_GLAND_MODEL = "histonet_X1.7_phantom", "histonet_X1.7_phantom56"

PHANTOM_CAVEAT = (
    "a classifier trained on phantoms is used, which knows no real tissue: what it says of any is worth nothing"
)


# --- On the screen ---------------------------------------------------------------------------------------------------


def note(text: object) -> None:
    """Print one line for the user on stderr; the command goes on."""
    say("note", text)


def tell(notes: Iterable[object] = (), failures: Iterable[object] = ()) -> int:
    """Print notes, then a line on each failed input; return the exit status: 1 if anything failed, else 0."""
    for text in notes:
        note(text)
    failures = list(failures)
    for text in failures:
        say("failed", text)
    return int(bool(failures))


def say(kind: str, text: object) -> None:
    """Print a message of the library; its parameters, such as `model_mpp`, are spelled as options."""
    words = re.sub(r"`([a-z][a-z_]*)`", lambda found: f"--{found[1].replace('_', '-')}", str(text))
    words = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), words)
    print(f"{kind}: {words}", file=sys.stderr)


# --- How a command ends ----------------------------------------------------------------------------------------------


class Terminated(BaseException):
    """SIGTERM, as batch systems send it; no Exception, so that it does not pass for a failed input."""


def exit_status(command: Callable[[], int]) -> int:
    """Run a command to its end, and return its exit status.

    Errors that the user can mend give one line on stderr and status 2. Ctrl-C and SIGTERM give one line and status 130
    or 143, and leave no worker process. Lost output does not stop a command, and gives status 1 if the disk is full.
    """
    _guard_output()
    signals: list[int] = []  # received ones: a library may turn the exception into an error of its own
    caught = _catch_signals(signals) if threading.current_thread() is threading.main_thread() else []
    ignore = sys.unraisablehook
    sys.unraisablehook = partial(_again, ignore)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", Notice)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            _check_process()
            status = command()
    except BaseException as error:
        status = _status_of(error, signals)
    finally:
        sys.unraisablehook = ignore
    for number in [] if signals else caught:
        signal.signal(number, signal.SIG_DFL)  # all is done: Python would only report the exception as ignored
    return status or _lost_output()


def _status_of(error: BaseException, signals: list[int]) -> int:
    """Print one line on why a command ended, if the user can mend it or wanted it, and return its exit status."""
    if isinstance(error, KeyboardInterrupt) or signals:
        number = signals[-1] if signals else signal.SIGINT
        _stop()
        exec("")  # after an interrupted exec, Python would end itself by SIGINT without this
        word = "terminated" if number == signal.SIGTERM else "interrupted"
        print("; ".join([word, *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 128 + number
    if isinstance(error, InputError):
        say("error", error)
    elif isinstance(error, OSError) and error.filename:
        advice = "; make room there, and run the same command again" if error.errno in NO_ROOM else ""
        say("error", f"{error.filename}: {error.strerror}{advice}")
    elif isinstance(error, (ImportError, MemoryError, OSError)) and (narrow := narrow_memory()):
        say("error", narrow)
    elif isinstance(error, SystemExit) and not error.code:  # --help and --version
        return 0
    else:
        raise error
    return 2


def _catch_signals(came: list[int]) -> list[int]:
    """Raise KeyboardInterrupt or Terminated on signals, and record them; ignored signals (nohup) stay ignored.

    Returns the signals that are caught.
    """

    def catch(number: int, _: object) -> None:
        came.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, catch)
    return numbers


def _show_warning(show: Callable, message: Warning, category: type[Warning], *place) -> None:
    if issubclass(category, Notice):
        note(message)
    else:
        show(message, category, *place)


def _again(ignore: Callable, ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal again if it came where Python ignores exceptions, such as during garbage collection."""
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    if ignored.exc_type in numbers:
        # On Windows, os.kill ends a process.
        send = signal.raise_signal if os.name == "nt" else partial(os.kill, os.getpid())
        threading.Timer(0.05, send, (numbers[ignored.exc_type],)).start()
    else:
        ignore(ignored)


def _stop() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a second signal would interrupt the cleanup
        signal.signal(number, signal.SIG_IGN)
    if parallel := sys.modules.get(f"{__package__.partition('.')[0]}.parallel"):
        parallel.stop_workers()


def _check_process() -> None:
    for before, text in pairwise([sys.argv[0], *sys.argv[1:]]):  # empty, such as an unset shell variable
        option, _, value = text.partition("=") if text.startswith("--") else (before, "", text)
        if not value.strip() and ("=" in text or not text.strip()):
            raise InputError(f"{option} '': nothing is given; give a value, or leave it out")
    if narrow := narrow_memory(LEAST_ADDRESS_SPACE):
        raise InputError(narrow)
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the working folder was deleted: change to another one") from None


class _Output(io.RawIOBase):
    """The raw target of stdout or stderr; after the first error, further output is discarded."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.stream, self.error = stream, None  # a stream that is garbage-collected closes its file
        self.target = getattr(stream.buffer, "raw", stream.buffer)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.target.isatty()

    def fileno(self) -> int:
        return self.target.fileno()

    def write(self, data: bytes) -> int:
        if not self.error:
            try:
                return self.target.write(data)
            except OSError as error:
                self.error = error
        return len(data)


def _guard_output() -> None:
    """Guard stdout and stderr: no character that the screen lacks, and no closed stream, stops a command."""
    for number in range(3):  # the next opened file would get a closed one's number
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # replaced, for example by a test
            continue
        stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        stream.flush()
        output = _Output(stream)
        buffer, lines = io.BufferedWriter(output), output.isatty() or name == "stderr"
        guarded = io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines)
        setattr(sys, name, guarded)


def _lost_output() -> int:
    """Flush stdout. Report a full disk and return 1; return 0 if all is well or the reader went away."""
    sys.stdout.flush()
    error = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "error", None)
    if not error or error.errno in (errno.EPIPE, errno.EINVAL):  # the latter on Windows
        return 0
    say("error", f"what was to be printed is lost: {error.strerror}")
    return 1


# --- Default data ----------------------------------------------------------------------------------------------------


def default_model(root: Path, labels: str | None) -> str:
    """Return the official classifier if ``<root>/data`` has it, else, with a note, the phantom one for a label set."""
    if (root / "data" / f"{OFFICIAL_MODEL}.h5").exists():
        return OFFICIAL_MODEL
    note(f"{root / 'data'} has no {OFFICIAL_MODEL}: {PHANTOM_CAVEAT} (see the README)")
    return PHANTOM_GLAND_MODEL if labels == "glas" else PHANTOM_MODEL
