"""Start the server, open the browser, and end with Ctrl-C."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from ..errors import InputError
from ..io.sandbox import end_readers
from .guard import LOCAL
from .library import Library
from .open_results import Shelf

PORT = 8550  #: where the server listens unless told otherwise, or at the next free port after it
TRIED = 20  #: ports that are tried

SECONDS = 2  #: that requests may take to finish when the server ends


def serve(folder: Path, truth: Path | None, host: str, port: int | None, open_browser: bool) -> None:
    """Show a folder of results in the browser, until Ctrl-C.

    Parameters
    ----------
    folder : Path
        Results of `segment` or of the demos, of one slide or of many.
    truth : Path or None
        Folder of ground truth of the user's own.
    host : str
        Address to listen at; other than local ones demand a token, which is printed.
    port : int or None
        None takes the first free one.
    open_browser : bool

    Raises
    ------
    InputError
        If there are no results, or the server cannot listen there.
    """
    try:
        import uvicorn

        from .server import make_app
    except ModuleNotFoundError as error:
        raise InputError(f"view needs {error.name}: pip install 'hsn_v1[view]'") from error
    library = Library.of(folder)
    if not library.collections():
        raise InputError(f"{folder}: no results in it; run `hsn-v1 segment` or a demo first, or name their folder")
    if truth and not truth.is_dir():
        raise InputError(f"--truth {truth}: no such folder; expected masks or QuPath's GeoJSON, named after the slides")
    listening = listen(host, port)
    port = listening.getsockname()[1]
    token = "" if host in LOCAL else secrets.token_urlsafe(16)
    app = make_app(Shelf(library, truth), host, token, f"hsn_v1_{port}")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/{f'?token={token}' if token else ''}"
    print(f"{folder} at {address} (Ctrl-C ends)", flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=SECONDS)
    if open_browser and has_display():
        threading.Timer(0.3, webbrowser.open, [address]).start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
        end_readers()  # so that no thread waits for a slide that takes long
    print("view ended")


def listen(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; without a port, at the first free one from PORT on.

    Raises
    ------
    InputError
        If the address is none of this machine's, or the port is taken.
    """
    if port is not None and not 0 <= port <= 65535:
        raise InputError(f"--port {port}: expected 0 (any that is free) to 65535")
    for candidate in [port] if port is not None else range(PORT, PORT + TRIED):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, candidate), family=family, backlog=512)
        except OSError as error:
            reason = error.strerror or error
    raise InputError(f"--host {host} --port {candidate}: cannot listen there ({reason}); choose another")


def has_display() -> bool:
    """Whether a browser can open a window: else one in the terminal would, and take it over."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
