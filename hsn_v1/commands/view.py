"""``hsn-v1 view``: look at results in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``view``."""
    parser = subparsers.add_parser(
        "view",
        help="look at results in the browser",
        description="Show what segment and the demos wrote in the browser, on this machine alone, until Ctrl-C.",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="results (default: all in ROOT/out)")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="ground truth: QuPath's GeoJSON or masks, by name")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that has out (default: this one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, metavar="N", help="port to listen at (default: the first free from 8550)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command ``view``, and return its exit status."""
    folder = arguments.folder or arguments.root / "out"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected results of `hsn-v1 segment` or of a demo")
    from ..view.serve import serve

    serve(folder, arguments.truth, arguments.host, arguments.port, not arguments.no_browser)
    return 0
