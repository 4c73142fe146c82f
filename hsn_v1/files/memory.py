"""How much memory there is for this process: on the machine, and in the container or batch job that it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

#: Names of the limit, of what is used, and of what of it are files that can be dropped, in Linux' two kinds of groups.
NAMES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(groups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """Return the bytes of memory that may still be taken.

    Parameters
    ----------
    groups, root : str
        Where Linux tells which groups of processes this one belongs to, and what these may use.
    """
    return max(0, min([psutil.virtual_memory().available, *_left(Path(groups), Path(root))]))


def _left(groups: Path, root: Path) -> Iterator[int]:
    """Yield what each group that this process belongs to, and each that holds that one, has left."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, kind, place in lines:
        if kind not in NAMES:
            continue
        limit, usage, droppable = NAMES[kind]
        group = root / kind / place.strip("/")
        while group.is_relative_to(root / kind):
            try:
                used = int((group / usage).read_text())
                facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                yield int((group / limit).read_text()) - used + int(facts.get(droppable, 0))
            except (OSError, ValueError):  # no limit ("max"), or not to be seen from inside a container
                pass
            group = group.parent
