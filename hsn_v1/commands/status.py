"""How a command ends: its exit status, and errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import InputError


def exit_status(command: Callable[[], int]) -> int:
    """Run a command, and turn what the user can mend into one line on stderr and exit status 2."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # permissions, a full disk, a folder that was removed
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
