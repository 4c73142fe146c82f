"""How a command ends: its exit status, and errors as one line."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

from ..errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not error.filename:
            raise
        advice = "; make room there, and run the same command again" if error.errno in NO_ROOM else ""
        print(f"error: {error.filename}: {error.strerror}{advice}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as error:
        _stop()
        interrupted = isinstance(error, KeyboardInterrupt)
        print("interrupted" if interrupted else "terminated", file=sys.stderr)
        return 130 if interrupted else 143
    finally:
        sys.unraisablehook = ignore


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
        print("note: this processor has no instructions for bfloat16: computing in float32", file=sys.stderr)
        return "float32"
    return precision
