"""Serve pages, tiles and facts of results, read only."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import InputError
from ..io.reading import read_text
from ..io.sandbox import end_readers
from ..labels import LabelSet
from ..parallel import available_cores
from .entries import Entry
from .facts import classes_of, row_of
from .guard import FRESH, Guard
from .library import OutsideError
from .open_results import OpenResults
from .pyramids import decode

PORT = 8550  #: default port; the next free one is taken if it is in use
TRIED = 20  #: ports to try

SECONDS = 2  #: time for requests to finish when the server ends

STATIC = Path(__file__).with_name("static")

#: Header of tiles and thumbnails, which browsers may cache: their addresses change with their files.
KEPT = {"cache-control": "private, max-age=86400"}


class AnyName(PathConvertor):
    """A path with any letters in it, also line breaks."""

    regex = "(?s:.*)"


register_url_convertor("name", AnyName())


def make_app(results: OpenResults, host: str = "127.0.0.1", token: str = "", cookie: str = "hsn_v1") -> Guard:
    """Return the ASGI application; see `Guard` for its parameters."""
    # A fixed pool of few threads, as each keeps the memory of tiles that it decoded.
    pool = ThreadPoolExecutor(available_cores() + 2, "view")

    def answered(handle: Callable[[OpenResults, Request], Response]) -> Callable:
        @functools.wraps(handle)
        async def endpoint(request: Request) -> Response:
            return await asyncio.get_running_loop().run_in_executor(pool, _status, handle, results, request)

        return endpoint

    routes = [
        Route("/", _page("index.html")),
        Route("/slide/{id:name}", _page("slide.html")),
        Route("/api/collections", answered(list_collections)),
        Route("/api/entries", answered(list_entries)),
        Route("/api/entry", answered(describe_entry)),
        Route("/api/score", answered(score_layer)),
        Route("/card", answered(send_card)),
        Route("/tile/image", answered(send_image_tile)),
        Route("/tile/labels", answered(send_label_tile)),
        Route("/thumbnail", answered(send_thumbnail)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=2048)])
    return Guard(app, host, token, cookie)


def _page(name: str) -> Callable:
    async def endpoint(request: Request) -> Response:
        return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    return endpoint


def _status(handle: Callable[[OpenResults, Request], Response], results: OpenResults, request: Request) -> Response:
    """Answer a request; turn errors into a status and a one-line reason."""
    try:
        return handle(results, request)
    except OutsideError as error:
        status, reason = 403, str(error)
    except (FileNotFoundError, NotADirectoryError) as error:
        status, reason = 404, f"{error.filename or error}: gone"
    except LookupError:
        status, reason = 404, "there is no such thing"
    except InputError as error:
        status, reason = 422, str(error)
    except MemoryError:
        status, reason = 503, "this takes more memory than there is"
    except OSError as error:
        status, reason = 503, f"{error.filename or 'a file'}: {error.strerror or error}"
    return PlainTextResponse(reason.translate(_AWAY), status, headers=FRESH)


# --- Facts ----------------------------------------------------------------------------------------------------------


def list_collections(results: OpenResults, request: Request) -> Response:
    """List the collections, the newest first."""
    titles = {".": results.library.root.name}
    return as_json([{"name": name, "title": titles.get(name, name)} for name in results.library.collections()])


def list_entries(results: OpenResults, request: Request) -> Response:
    """List a collection's entries, and the classes of their label sets."""
    entries = results.library.entries(parameter(request, "collection"))
    label_sets = {label_set.name: label_set for entry in entries for label_set in entry.label_sets}
    classes = {name: classes_of(label_set) for name, label_set in label_sets.items()}
    rows = [row_of(entry, results.tables) for entry in entries]
    return as_json({"classes": classes, "entries": rows})


def describe_entry(results: OpenResults, request: Request) -> Response:
    """Send the facts, layers and notes of an entry."""
    return as_json(results.describe(_entry(results, request)))


def score_layer(results: OpenResults, request: Request) -> Response:
    """Score a layer against the ground truth."""
    entry = _entry(results, request)
    return as_json(results.score(entry, *_layer(entry, request)))


def send_card(results: OpenResults, request: Request) -> Response:
    """Send the model card of an entry's classifier."""
    if not (card := results.card(_entry(results, request))):
        raise LookupError
    return PlainTextResponse(read_text(card), headers=FRESH)


# --- Pictures -------------------------------------------------------------------------------------------------------


def send_image_tile(results: OpenResults, request: Request) -> Response:
    """Send a deep-zoom tile of a slide."""
    entry, (level, row, column) = _entry(results, request), _place(request)
    content = results.pictures.tile(results.source(entry), entry.mpp, level, column, row)
    return Response(content, media_type="image/jpeg", headers=KEPT)


def send_label_tile(results: OpenResults, request: Request) -> Response:
    """Send a tile of a layer: class indices, one byte each, which the browser inflates."""
    entry = _entry(results, request)
    tile = results.layer(entry, *_layer(entry, request)).tile(*_place(request))
    decode(tile)  # raises InputError for a damaged tile, for which a browser would give no reason
    headers = {**KEPT, "content-encoding": "deflate"}
    return Response(tile, media_type="application/octet-stream", headers=headers)


def send_thumbnail(results: OpenResults, request: Request) -> Response:
    """Send a small picture of an entry with its label map."""
    entry, name = _entry(results, request), request.query_params.get("set")
    palette = "safe" if request.query_params.get("palette") == "safe" else "published"
    content = results.thumbnail(entry, entry.label_set(name) if name else None, palette)
    return Response(content, media_type="image/jpeg", headers=KEPT)


def _entry(results: OpenResults, request: Request) -> Entry:
    return results.library.entry(parameter(request, "id"))


def _layer(entry: Entry, request: Request) -> tuple[LabelSet, str]:
    return entry.label_set(parameter(request, "set")), parameter(request, "layer")


def _place(request: Request) -> tuple[int, int, int]:
    try:
        level, row, column = (int(request.query_params[name]) for name in ("level", "row", "column"))
    except ValueError:
        raise HTTPException(400, "level, row and column are whole numbers") from None
    return level, row, column


# --- File names in JSON and addresses: surrogate escapes of bytes that are not UTF-8 become private-use characters ---

#: From Python's surrogate escapes to private-use characters, which the browser can handle.
_AWAY = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}
_BACK = {there: here for here, there in _AWAY.items()}


def as_json(content: Any) -> Response:
    """Return a JSON response; names may have bytes that are not UTF-8, nan and infinity become null."""
    form = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    try:
        text = json.dumps(content, **form)
    except ValueError:
        text = json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None), **form)
    return Response(text.translate(_AWAY), media_type="application/json", headers=FRESH)


def parameter(request: Request, name: str) -> str:
    """Return a parameter of a request, with surrogate escapes restored; raise KeyError if it is missing."""
    return request.query_params[name].translate(_BACK)


# --- Listening --------------------------------------------------------------------------------------------------------


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on `port`, or on the first free one from PORT on; raise InputError on failure."""
    if port is not None and not 0 <= port <= 65535:
        raise InputError(f"port {port}: expected 0 (any that is free) to 65535")
    for candidate in [port] if port is not None else range(PORT, PORT + TRIED):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, candidate), family=family, backlog=512)
        except OSError as error:
            reason = error.strerror or error
    raise InputError(f"{host}, port {candidate}: cannot listen there ({reason}); choose another")


def serve(app: Guard, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM; then end the slides' readers, so that no thread waits for one."""
    import uvicorn

    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=SECONDS)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        end_readers()
