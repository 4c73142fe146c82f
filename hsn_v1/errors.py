"""Messages of the package to its user: errors for unusable input, warnings and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable


class InputError(ValueError):
    """An input of the user, such as a file, a folder or a setting, cannot be used.

    The message is one line. It names the file or value, the expected one, and what to do.
    """


def merge_notes(notes: Iterable[str]) -> list[str]:
    """Merge notes on files ("FILE: NOTE") that differ only in file, numbers and colours; count the files."""
    merged: dict[str, list[str]] = {}
    for note in notes:
        merged.setdefault(re.sub(r"#[0-9a-f]{6}|\d+", "0", note.partition(": ")[2]) or note, []).append(note)
    return [
        f"{first} ({len(more)} more file{'s' * (len(more) > 1)} likewise)" if more else first
        for first, *more in merged.values()
    ]


class Notice(UserWarning):
    """A warning that stops nothing: one line, which the commands print as a note.

    Use it in the middle of the work, as ``warnings.warn(Notice(text))``. Return a note that is known at the end.
    """
