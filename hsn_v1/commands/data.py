"""``hsn-v1 data``: put the authors' download in place, and check it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..sets.official import Finding


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``data``."""
    parser = subparsers.add_parser(
        "data",
        help="put the authors' download in place and check it",
        description="Put the authors' download in place, and say whether it is what the paper used.",
        epilog="exit status: 0 all as published, 1 in place but something is missing or different, 2 nothing done",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "source", nargs="?", type=Path, metavar="SOURCE", help="hsn_data.zip, or the folder it unpacks to"
    )
    what.add_argument("--check", action="store_true", help="only check what is in place")
    parser.add_argument("--root", type=Path, default=Path(), help="folder for data, gt and img (default: this one)")
    parser.add_argument("--force", action="store_true", help="replace files that differ from SOURCE's")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command ``data``, and return its exit status."""
    from rich.console import Console
    from rich.progress import track

    from ..sets.official import inspect
    from ..sets.unpack import install

    tracked = partial(track, transient=True, disable=not Console().is_terminal)
    if arguments.source:
        installed = install(arguments.source, arguments.root, arguments.force, tracked)
        print(f"{len(installed.placed)} files placed in {arguments.root}, {len(installed.unchanged)} there already")
        if installed.skipped:
            print(f"skipped, as outside data, gt and img: {', '.join(installed.skipped)}")
    findings = inspect(arguments.root, tracked)
    print_findings(findings)
    wrong = sum(not finding.ok for finding in findings)
    doubts = [f"{finding.subject}: {finding.doubt}" for finding in findings if finding.doubt]
    for doubt in doubts:
        print(f"not told (?): {doubt}")
    as_published = "all as published, as far as can be told" if doubts else "all as published"
    print(f"{wrong} of {len(findings)} checks (✗): missing or different" if wrong else as_published)
    return 1 if wrong else 0


def print_findings(findings: list[Finding]) -> None:
    """Print what was found beside what the paper used."""
    from rich.console import Console

    from ..show.html import Table, for_terminal

    rows = [
        ("?" if f.doubt else "✓" if f.ok else "✗", f.subject, f"{f.found}\n{f.doubt}".rstrip(), f.expected)
        for f in findings
    ]
    Console().print(for_terminal(Table("", ("", "checked", "found", "published"), rows, words=4)))
