"""What all commands share: how they end, what they say on the screen, their precision, and their default data."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ..errors import InputError, Notice

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Folder of the phantom images that come with the repository (not with the installed package).
REPOSITORY = Path(__file__).parents[2]

#: The authors' classifier.
OFFICIAL_MODEL = "histonet_X1.7_clrdecay_5"

#: Image sets of phantoms, by their kind.
PHANTOM_SETS = {"patch": "01_phantom_patch", "glas": "02_phantom_glas"}

#: Classifiers that were trained on phantoms: the second on smaller patches, which suits glands.
PHANTOM_MODEL, PHANTOM_GLAND_MODEL = "histonet_X1.7_phantom", "histonet_X1.7_phantom56"

PHANTOM_CAVEAT = (
    "a classifier trained on phantoms is used, which knows no real tissue: what it says of any is worth nothing"
)


# --- On the screen ---------------------------------------------------------------------------------------------------


def note(text: object) -> None:
    """Print one line on stderr about something that the user should know, and that stops nothing."""
    _say("note", text)


def failed(text: object) -> None:
    """Print one line on stderr about an input that failed, while the others are done."""
    _say("failed", text)


def tell(notes: Iterable[object] = (), failures: Iterable[object] = ()) -> int:
    """Print notes, then failures.

    Returns
    -------
    int
        Exit status: 1 if anything failed, else 0.
    """
    for text in notes:
        note(text)
    status = 0
    for text in failures:
        failed(text)
        status = 1
    return status


def _say(kind: str, text: object) -> None:
    """Print a message of the library's, with its parameters, such as `model_mpp`, as the command line has them."""
    words = re.sub(r"`([a-z][a-z_]*)`", lambda found: f"--{found[1].replace('_', '-')}", str(text))
    print(f"{kind}: {words}", file=sys.stderr)


# --- How a command ends ----------------------------------------------------------------------------------------------


class Terminated(BaseException):
    """SIGTERM, as batch systems send it: not an Exception, so that nothing takes it for a failed input."""


def exit_status(command: Callable[[], int]) -> int:
    """Run a command to its end, and return its exit status.

    What the user can mend is one line on stderr and status 2. Ctrl-C and SIGTERM are one line and status 130 or 143,
    and leave no worker process.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    ignore = sys.unraisablehook
    sys.unraisablehook = partial(_again, ignore)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", Notice)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            return command()
    except InputError as error:
        _say("error", error)
        return 2
    except OSError as error:
        if not error.filename:
            raise
        advice = "; make room there, and run the same command again" if error.errno in NO_ROOM else ""
        _say("error", f"{error.filename}: {error.strerror}{advice}")
        return 2
    except (KeyboardInterrupt, Terminated) as error:
        _stop()
        interrupted = isinstance(error, KeyboardInterrupt)
        print("interrupted" if interrupted else "terminated", file=sys.stderr)
        return 130 if interrupted else 143
    finally:
        sys.unraisablehook = ignore


def _show_warning(show: Callable, message: Warning, category: type[Warning], *place) -> None:
    if issubclass(category, Notice):
        note(message)
    else:
        show(message, category, *place)


def _terminate(*_) -> None:
    raise Terminated


def _again(ignore: Callable, ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal once more that came where Python ignores exceptions, such as when it collects garbage."""
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    if ignored.exc_type in numbers:
        threading.Timer(0.05, os.kill, (os.getpid(), numbers[ignored.exc_type])).start()
    else:
        ignore(ignored)


def _stop() -> None:
    from ..parallel import stop_workers

    for number in (signal.SIGINT, signal.SIGTERM):  # a second one would interrupt the cleaning up
        signal.signal(number, signal.SIG_IGN)
    stop_workers()


# --- Options and defaults --------------------------------------------------------------------------------------------


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="how the classifier computes: bfloat16 is faster on processors that know it, and not exact "
        "(default: float32)",
    )


def usable_precision(precision: str) -> str:
    """Return the precision that was asked for, or float32 with a note where that would be slow."""
    from ..keras_start import has_fast_bfloat16

    if precision == "bfloat16" and not has_fast_bfloat16():
        note("this processor has no instructions for bfloat16: computing in float32")
        return "float32"
    return precision


def default_model(root: Path, labels: str | None) -> str:
    """Return the official classifier where ``<root>/data`` has it, else the phantom one for a label set, and say so."""
    if (root / "data" / f"{OFFICIAL_MODEL}.h5").exists():
        return OFFICIAL_MODEL
    note(f"{root / 'data'} has no {OFFICIAL_MODEL}: {PHANTOM_CAVEAT} (see the README)")
    return PHANTOM_GLAND_MODEL if labels == "glas" else PHANTOM_MODEL
