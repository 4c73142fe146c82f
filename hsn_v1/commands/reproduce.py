"""``hsn-v1 reproduce``: measure the papers' numbers here, and print them beside the published ones."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from .common import tell
from .data import PAPERS
from .options import add_root, add_workers


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``reproduce``."""
    parser = subparsers.add_parser(
        "reproduce",
        help="repeat the papers' experiments, and print their numbers beside those measured here",
        description="Run the papers' experiments whose data are in place, or phantoms if none are, and print the "
        "published numbers beside those measured here. The same command resumes an interrupted run.",
        epilog="exit status: 0 done, 1 an image or a run failed, 2 nothing done",
    )
    add_root(parser, "the authors' data")
    parser.add_argument("--out", type=Path, help="folder to write to (default: ROOT/out/reproduced)")
    add_workers(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    parser.set_defaults(run=run, resumes=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the command ``reproduce``, and return its exit status."""
    from rich.console import Console

    from ..io import tree
    from ..sets.published import REPOSITORY
    from ..sets.reproduce import reasons_of, reproduce, table_of
    from ..show.html import PAGE, for_terminal

    root, workers = arguments.root, arguments.workers
    out = arguments.out or root / tree.RESULTS / "reproduced"
    root_option = "" if root == Path() else f" --root {shlex.quote(str(root))}"
    advice = {paper: f"hsn-v1 data --fetch {paper}{root_option}" for paper in PAPERS}
    outcome = reproduce(root, out, advice, REPOSITORY, workers, arguments.quiet)
    if not arguments.quiet:
        table = table_of(outcome.numbers)
        Console().print(for_terminal(table, table.note))
        for line in reasons_of(outcome.numbers):
            print(line)
        print(f"results in {out / PAGE}, numbers.csv and numbers.json")
    return tell(outcome.notes, outcome.failures)
