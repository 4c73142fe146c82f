"""``hsn-v1 data``: fetch the authors' data, put them in place, and check them."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell

if TYPE_CHECKING:
    from ..sets.official import Finding
    from ..sets.unpack import Track

#: The papers with data to fetch.
PAPERS = ("iccv2019", "ijcv2020")

GIGABYTE = 10**9  #: bytes from which on the user is asked


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``data``."""
    parser = subparsers.add_parser(
        "data",
        help="fetch the authors' data, put them in place and check them",
        description="Put the authors' data in place, and check whether they are those of the papers.",
        epilog="exit status: 0 all as published, 1 in place but something is missing or different, 2 nothing done",
    )
    action = parser.add_mutually_exclusive_group(required=True)
    source = "hsn_data.zip, an archive of the later paper's record, or the folder that one unpacks to"
    action.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help=source)
    action.add_argument("--from", dest="given", type=Path, metavar="FILE|FOLDER", help="the same as SOURCE")
    action.add_argument(
        "--fetch",
        nargs="?",
        choices=(*PAPERS, "both"),
        const="both",
        help="fetch the data of a paper, or of both: iccv2019 from the authors' drive, which needs gdown (pip install "
        "'hsn_v1[fetch]'), ijcv2020 from Zenodo; an interrupted download is resumed",
    )
    action.add_argument("--check", action="store_true", help="only check what is in place")
    add = parser.add_argument
    add("--root", type=Path, default=Path(), help="folder to put them in (default: this one)")
    add("--force", action="store_true", help="replace files that differ from SOURCE's")
    add("--yes", action="store_true", help="fetch gigabytes without asking")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command ``data``, and return its exit status."""
    from rich.console import Console
    from rich.progress import track

    from ..sets.official import inspect

    tracked = partial(track, transient=True, disable=arguments.quiet or not Console().is_terminal)
    sources, failures, installed = [path for path in (arguments.source, arguments.given) if path], [], False
    for paper in PAPERS if arguments.fetch == "both" else filter(None, (arguments.fetch,)):
        try:
            sources += _fetch(paper, arguments)
        except InputError as error:
            failures.append(error)
    for source in sources:
        try:
            _install(source, arguments, tracked)
            installed = True
        except InputError as error:
            failures.append(error)
    if failures and not installed:
        tell(failures=failures[:-1])
        raise failures[-1]
    return max(tell(failures=failures), print_findings(inspect(arguments.root, tracked)))


def _fetch(paper: str, arguments: argparse.Namespace) -> list[Path]:
    """Fetch a paper's archives."""
    from ..progress import download_bars
    from ..sets.fetch import fetch_drive, fetch_record

    folder = arguments.root / "download"
    if paper == "iccv2019":
        archives = [fetch_drive(folder, arguments.quiet)]
    else:
        with download_bars(arguments.quiet) as progress:
            archives, left = fetch_record(folder, partial(_agree, arguments.yes), progress)
        if left:
            print(f"not needed of the record: {', '.join(left)}")
    print(f"fetched {', '.join(map(str, archives))}, which may be removed once all is in place")
    return archives


def _agree(yes: bool, size: int, names: str) -> bool:
    """Ask once whether gigabytes may be fetched."""
    if yes or size < GIGABYTE:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    print(f"fetch {size / GIGABYTE:.1f} GB ({names})? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _install(source: Path, arguments: argparse.Namespace, track: Track) -> None:
    """Put an archive's files in place, and print their number."""
    from ..sets.unpack import install

    installed = install(source, arguments.root, arguments.force, track)
    print(f"{len(installed.placed)} files placed in {arguments.root}, {len(installed.unchanged)} there already")
    if installed.skipped:
        print(f"skipped, as not needed: {', '.join(installed.skipped)}")


def print_findings(findings: list[Finding]) -> int:
    """Print findings beside the papers' values, and return the exit status: 1 if something differs."""
    from rich.console import Console

    from ..show.html import Table, for_terminal

    rows = [
        ("?" if f.doubt else "✓" if f.ok else "✗", f.subject, f"{f.found}\n{f.doubt}".rstrip(), f.expected)
        for f in findings
    ]
    Console().print(for_terminal(Table("", ("", "checked", "found", "published"), rows, words=4)))
    doubts = [f"{finding.subject}: {finding.doubt}" for finding in findings if finding.doubt]
    for doubt in doubts:
        print(f"not told (?): {doubt}")
    wrong = sum(not finding.ok for finding in findings)
    as_published = "all as published, as far as can be told" if doubts else "all as published"
    print(f"{wrong} of {len(findings)} checks (✗): missing or different" if wrong else as_published)
    return 1 if wrong else 0
