"""How a command ends: its exit status, and errors as one line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

from ..errors import InputError


class Terminated(BaseException):
    """SIGTERM, as batch systems send it: not an Exception, so that nothing takes it for a failed input."""


def exit_status(command: Callable[[], int]) -> int:
    """Run a command to its end, and return its exit status.

    What the user can mend is one line on stderr and status 2. Ctrl-C and SIGTERM are one line and status 130 or 143,
    and leave no worker process.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not error.filename:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as error:
        _stop()
        interrupted = isinstance(error, KeyboardInterrupt)
        print("interrupted" if interrupted else "terminated", file=sys.stderr)
        return 130 if interrupted else 143


def _terminate(*_) -> None:
    raise Terminated


def _stop() -> None:
    from ..workers import stop_workers

    for number in (signal.SIGINT, signal.SIGTERM):  # a second one would interrupt the cleaning up
        signal.signal(number, signal.SIG_IGN)
    stop_workers()
