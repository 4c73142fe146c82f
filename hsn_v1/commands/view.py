"""``hsn-v1 view``: look at results in the browser."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import note
from .options import add_root, whole

if TYPE_CHECKING:
    from ..view.library import Library


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``view``."""
    parser = subparsers.add_parser(
        "view",
        help="look at results in the browser",
        description="Show results of segment and of the demos in the browser, on this machine alone, until Ctrl-C.",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="results (default: all in ROOT/out)")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="ground truth named as the slides: GeoJSON or masks")
    add_root(parser, "out")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument(
        "--port", type=whole(0, 65_535), metavar="N", help="port to listen at (default: the first free from 8550)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        from ..view.guard import LOCAL
        from ..view.open_results import OpenResults
        from ..view.server import listen, make_app, serve
    except ModuleNotFoundError as error:
        raise InputError(f"view needs {error.name}: pip install 'hsn_v1[view]'") from error
    folder, truth, host = arguments.folder or arguments.root / "out", arguments.truth, arguments.host
    library = _library(folder)
    if truth:
        _check_ground_truth(library, truth)
    listening = listen(host, arguments.port)
    port = listening.getsockname()[1]
    token = "" if host in LOCAL else secrets.token_urlsafe(16)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/{f'?token={token}' if token else ''}"
    print(f"{folder} at {address} (Ctrl-C ends)", flush=True)
    if not arguments.no_browser and _has_display():
        threading.Timer(0.3, webbrowser.open, [address]).start()
    serve(make_app(OpenResults(library, truth), host, token, f"hsn_v1_{port}"), listening)
    print("view ended")
    return 0


def _library(folder: Path) -> Library:
    from ..view.library import Library

    library = Library.of(folder)
    if not library.collections():
        raise InputError(f"{folder}: no results in it; run `hsn-v1 segment` or a demo first, or name their folder")
    return library


def _check_ground_truth(library: Library, folder: Path) -> None:
    """Note the ground-truth files that belong to no result. Raises InputError if there is no such folder."""
    from ..io.reading import no_folder
    from ..view.ground_truth import unused_files

    if not folder.is_dir():
        raise InputError(
            f"--truth {folder}: {no_folder(folder)}; expected masks or QuPath's GeoJSON, named after the slides"
        )
    for text in unused_files(library, folder):
        note(text)


def _has_display() -> bool:
    """Tell whether a browser can open a window; otherwise a browser in the terminal would take it over."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
