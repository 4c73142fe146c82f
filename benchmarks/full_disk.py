"""Let each command fill the disk at ten levels, then make room and run it again, and count lost or damaged files.

    sudo python benchmarks/full_disk.py [--only demo train ...]

Each command writes to its own small file system in memory (tmpfs, which only root can mount; Linux), with room for 5,
15, ..., 95 % of all bytes that the command writes. It must end with status 1 or 2 and one line that names a file or the
folder, and leave finished files as they were, and no temporary file. Once the file system is larger, it must finish,
with the same bytes as on a disk with room from the start.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cases import Case, cases, digests, leftovers, make_inputs, run
from measuring import environment
from rich.console import Console
from rich.table import Table

LEVELS = [share / 100 for share in range(5, 100, 10)]
COLUMNS = ("levels", "full", "status", "traceback", "lines", "unnamed", "leftovers", "unfinished", "differ")


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of `size` bytes on a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def used(folder: Path) -> int:
    """Return the bytes that files take on a file system in memory, which has pages of 4 KiB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def resize(folder: Path, size: int) -> None:
    """Resize a mounted file system to `size` bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def try_level(case: Case, folder: Path, size: int, expected: dict[str, str], details: list[str]) -> Counter:
    """Run a command with room for `size` bytes, then again with enough room; count the faults."""
    counts = Counter(levels=1)
    with mounted(folder / "small", size) as out:
        done = run(case, out, env=environment())
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("note: ")]
        counts["full"] += done.returncode != case.status
        counts["status"] += done.returncode not in (case.status, 1, 2)
        counts["traceback"] += "Traceback" in done.stderr
        counts["lines"] += done.returncode == 2 and len(lines) != 1
        counts["unnamed"] += done.returncode == 2 and str(out) not in done.stderr
        left = [name for name in leftovers(out) if (out / name).is_file()]
        counts["leftovers"] += bool(left)
        resize(out, 1 << 30)
        again = run(case, out, env=environment())
        written = digests(out)
        left += leftovers(out)
        counts["unfinished"] += again.returncode != case.status
        differ = [name for name in expected.keys() & written.keys() if expected[name] != written[name]]
        names = expected.keys() ^ written.keys()
        counts["differ"] += bool(names or (differ and case.repeats))
    if sum(counts[column] for column in COLUMNS[2:]):
        what = ", ".join(f"{key} {value}" for key, value in counts.items() if value and key in COLUMNS[2:])
        details.append(f"{case.name}, {size} bytes: {what}: {' | '.join(lines)[-700:]}")
        details += [f"  left: {left[:4]}"] * bool(left) + [f"  differ: {sorted({*names, *differ})[:5]}"] * bool(differ)
        details += [f"  again: {again.returncode} {again.stderr[-300:]}"] * (again.returncode != case.status)
    return counts


def main() -> int:
    """Try all commands, and print the table; return 1 if there was any fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="commands (default: all)")
    arguments = parser.parse_args()
    table, details, wrong = Table("command", "MB", *COLUMNS), [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_inputs(folder)
        for case in cases(folder):
            if arguments.only and case.name not in arguments.only:
                continue
            with mounted(folder / "small", 1 << 30) as out:
                done = run(case, out, env=environment())
                if done.returncode != case.status:
                    raise SystemExit(f"{case.name}: {done.stderr}")
                size, expected = used(out), digests(out)
            counts = sum((try_level(case, folder, int(size * share), expected, details) for share in LEVELS), Counter())
            table.add_row(case.name, f"{size / 1e6:.2f}", *(str(counts[column]) for column in COLUMNS))
            wrong += sum(counts[column] for column in COLUMNS[2:])
            print(case.name, dict(counts), flush=True)
    Console(width=140).print(table)
    print("\n".join(details))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
