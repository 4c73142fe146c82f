"""How much memory there is for this process, on the machine and in its container or batch job; and what it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

#: glibc's numbers of two options of ``mallopt``.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

#: Names of the limit, of what is used, and of what of it are files that can be dropped, in Linux' two kinds of groups.
NAMES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(groups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """Return the bytes of memory that may still be taken.

    `groups` and `root` are where Linux tells which groups of processes this one belongs to, and what these may use.
    """
    try:
        free = psutil.virtual_memory().available
    except OSError:  # no /proc
        free = sys.maxsize
    return max(0, min([free, *_left(Path(groups), Path(root))]))


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


@cache
def keep_freed_memory(kept: int = 1 << 28, largest: int = 1 << 25) -> None:
    """Have glibc keep what this process frees for its next arrays; does nothing on other systems.

    Dask starts its workers so that they give back all at once, and a slide's arrays then cost more to get than to fill.
    `kept` bytes stay free; the memory of arrays of `largest` bytes (up to 32 MiB) or more is given back at once.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(TRIM_THRESHOLD, kept)
        set_option(MMAP_THRESHOLD, largest)
