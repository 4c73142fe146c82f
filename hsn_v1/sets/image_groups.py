"""Which group (case, patient, part of a test) each image belongs to: by its name, or by a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..io.tables import find_files, read_rows

NO_GROUP = "no group"


def image_groups(names: Sequence[str], group: str, table: Path | None = None) -> dict[str, str]:
    """Return each image's group by its name; `NO_GROUP` where there is none.

    Parameters
    ----------
    names : sequence of str
        Names of the images, without endings.
    group : str
        Column of the table or, without one, a regular expression to be found in a name: its first part in brackets,
        or what it matches, is the group.
    table : Path, optional
        Table with a column of the images' names, and others.

    Raises
    ------
    InputError
        If there is no such column, the expression is none, or no image is in any group.
    """
    groups = _by_table(names, group, table) if table else _by_name(names, group)
    if not any(groups.values()):
        raise InputError(f"{table or group}: puts no image in a group; expected names such as {names[0]}")
    return {name: groups.get(name) or NO_GROUP for name in names}


def _by_name(names: Sequence[str], group: str) -> dict[str, str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise InputError(
            f"`group` {group}: no regular expression ({error}); expected one such as '^test[AB]'"
        ) from error
    return {name: match[min(pattern.groups, 1)] or "" for name in names if (match := pattern.search(name))}


def _by_table(names: Sequence[str], group: str, table: Path) -> dict[str, str]:
    (_, header), *rows = read_rows(table) or [(0, [])]
    if group not in header:
        raise InputError(f"{table}: no column {group}; expected one of {', '.join(header)}")
    cells = [dict(zip(header, row, strict=False)) for _, row in rows]
    files = [Path(name) for name in names]
    named = [find_files([row.get(column, "") for row in cells], files) for column in header]
    column, found = max(zip(header, named, strict=True), key=lambda pair: len(pair[1]))
    return {found[row[column]].name: row.get(group, "") for row in cells if row.get(column) in found}
