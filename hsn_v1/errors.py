"""What the package tells who uses it: an error for what cannot be used, a warning of what to know, and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave (a file, a folder, a setting) cannot be used.

    The message is one line: it names the file or value, says what was expected
    and what to do about it.
    """


def merge_notes(notes: Iterable[str]) -> list[str]:
    """Return notes on files ("FILE: NOTE"), one for all files of which the same is said but for the numbers."""
    merged: dict[str, list[str]] = {}
    for note in notes:
        merged.setdefault(re.sub(r"\d+", "0", note.partition(": ")[2]) or note, []).append(note)
    return [
        f"{first} ({len(more)} more file{'s' * (len(more) > 1)} likewise)" if more else first
        for first, *more in merged.values()
    ]


class Notice(UserWarning):
    """Something the user should know, and that stops nothing: one line, which the commands print as a note.

    For what comes up in the middle of the work: ``warnings.warn(Notice(text))``. What is known at the end is returned.
    """
