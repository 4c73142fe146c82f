"""Time two versions of this repository alternately, on the demos and a phantom slide.

    git worktree add ../before 749cb3b
    python benchmarks/bench_versions.py ../before [--root DIR] [--size 20000] [--runs 5] [--only slide demo_01]

Both run as commands in this Python environment, with all outputs and start-up. Prints medians of seconds and of
core-seconds (the processor time of all processes), and their ratio to the earlier version's. DIR has data, img and gt
of the demos; without it they draw phantoms.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import DEMOS, REPOSITORY
from rich.console import Console
from rich.table import Table

TASKS = ("demo_01", "demo_02", "slide")


def run(command: list[str], checkout: Path) -> tuple[float, float]:
    """Run a command with a version's package; return its seconds, and the processor time of all its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout}: {done.stderr.strip()[-500:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def slide_command(checkout: Path, slide: Path, out: Path, *options: str) -> list[str]:
    """Return the command that segments a slide with the phantoms' half-width classifier, for both label sets."""
    fixed = ["--root", str(checkout), "--out", str(out), "--force", "--quiet"]
    return [sys.executable, "-m", "hsn_v1", "segment", str(slide), *fixed, *options]


def commands(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, tuple[list[str], Path]]]:
    """Return the commands to time, by task and version, each with the checkout that it runs in."""
    versions = {"before": arguments.before.resolve(), "now": REPOSITORY}
    tasks: dict[str, dict[str, tuple[list[str], Path]]] = {}
    for number, script in DEMOS.items():
        name = f"demo_0{number}"
        options = ["--root", str(arguments.root.resolve())] if arguments.root else []
        tasks[name] = {
            version: ([sys.executable, f"{script}.py", "--out", str(folder / f"{name} {version}"), *options], checkout)
            for version, checkout in versions.items()
        }
    slide = folder / "phantom_slide_000000.tif"
    draw = [sys.executable, "-m", "hsn_v1", "phantom", "--kind", "slide", "--size", str(arguments.size)]
    if "slide" in arguments.only:
        run([*draw, "--out", str(folder)], REPOSITORY)
    tasks["slide"] = {
        version: (slide_command(checkout, slide, folder / version), checkout) for version, checkout in versions.items()
    }
    tasks["slide"]["now, bfloat16"] = (
        slide_command(REPOSITORY, slide, folder / "b", "--precision", "bfloat16"),
        REPOSITORY,
    )
    return {name: tasks[name] for name in arguments.only}


def main() -> None:
    """Run all commands alternately, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="another version's checkout")
    parser.add_argument("--root", type=Path, help="folder with data, img and gt of the demos")
    parser.add_argument("--size", type=int, default=20_000, help="side of the slide, in px (default: 20000)")
    parser.add_argument("--runs", type=int, default=5, help="of each command, after one that does not count")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS)
    arguments = parser.parse_args()
    table = Table("task", "version", "seconds", "core-seconds", "share", "share of core-seconds")
    with tempfile.TemporaryDirectory() as folder:
        for name, versions in commands(arguments, Path(folder)).items():
            measured: dict[str, list[tuple[float, float]]] = {version: [] for version in versions}
            for _ in range(1 + arguments.runs):
                for version, command in versions.items():
                    measured[version].append(run(*command))
            medians = {
                version: [statistics.median(column) for column in zip(*times[1:], strict=True)]
                for version, times in measured.items()
            }
            for version, (seconds, cores) in medians.items():
                shares = (f"{value / old:.2f}" for value, old in zip((seconds, cores), medians["before"], strict=True))
                table.add_row(name, version, f"{seconds:.1f}", f"{cores:.1f}", *shares)
    Console().print(table)


if __name__ == "__main__":
    main()
