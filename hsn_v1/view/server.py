"""The local server: pages, tiles and facts of results, read only."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import InputError
from ..parallel import available_cores
from .facts import classes_of, row_of
from .guard import Guard
from .library import OutsideError
from .open_results import Shelf
from .pyramids import decode
from .url_names import Facts, Line, asked

STATIC = Path(__file__).with_name("static")

#: Tiles and facts have addresses that change with their files.
KEPT = {"cache-control": "private, max-age=86400"}
FRESH = {"cache-control": "no-store"}


def make_app(shelf: Shelf, host: str = "127.0.0.1", token: str = "", cookie: str = "hsn_v1") -> Guard:
    """Return the ASGI application.

    Parameters
    ----------
    shelf : Shelf
    host : str
        Where the server listens.
    token : str
        Asked for unless empty.
    cookie : str
        Name of the cookie that keeps the token.
    """
    # The same few threads for good: each keeps memory of the tiles that it decoded.
    pool = ThreadPoolExecutor(available_cores() + 2, "view")

    def answered(handle: Callable[[Shelf, Request], Response]) -> Callable:
        @functools.wraps(handle)
        async def endpoint(request: Request) -> Response:
            return await asyncio.get_running_loop().run_in_executor(pool, _status, handle, shelf, request)

        return endpoint

    routes = [
        Route("/", _page("index.html")),
        Route("/slide/{id:path}", _page("slide.html")),
        Route("/api/collections", answered(collections)),
        Route("/api/entries", answered(entries)),
        Route("/api/entry", answered(entry)),
        Route("/api/score", answered(score)),
        Route("/tile/image", answered(image_tile)),
        Route("/tile/labels", answered(label_tile)),
        Route("/thumbnail", answered(thumbnail)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=2048)])
    return Guard(app, host, token, cookie)


def _page(name: str) -> Callable:
    async def endpoint(request: Request) -> Response:
        return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    return endpoint


def _status(handle: Callable[[Shelf, Request], Response], shelf: Shelf, request: Request) -> Response:
    """Answer a request, or say in one line with the right status why not."""
    try:
        return handle(shelf, request)
    except OutsideError as error:
        status, reason = 403, str(error)
    except (FileNotFoundError, NotADirectoryError) as error:
        status, reason = 404, f"{error.filename or error}: gone"
    except LookupError:
        status, reason = 404, "there is no such thing"
    except InputError as error:
        status, reason = 422, str(error)
    except OSError as error:
        status, reason = 503, f"{error.filename or 'a file'}: {error.strerror or error}"
    return Line(reason, status, headers=FRESH)


# --- Facts ----------------------------------------------------------------------------------------------------------


def collections(shelf: Shelf, request: Request) -> Response:
    """List the collections, the newest first."""
    names = shelf.library.collections()
    titles = {name: shelf.library.root.name if name == "." else name for name in names}
    return Facts([{"name": name, "title": titles[name]} for name in names], headers=FRESH)


def entries(shelf: Shelf, request: Request) -> Response:
    """List a collection's entries, with the classes of all label sets that occur."""
    found = shelf.library.entries(asked(request, "collection"))
    label_sets = {one.name: one for entry in found for one in entry.label_sets}
    classes = {name: classes_of(label_set) for name, label_set in label_sets.items()}
    rows = [row_of(entry, shelf.areas) for entry in found]
    return Facts({"classes": classes, "entries": rows}, headers=FRESH)


def entry(shelf: Shelf, request: Request) -> Response:
    """Tell all about an entry."""
    return Facts(shelf.describe(_entry(shelf, request)), headers=FRESH)


def score(shelf: Shelf, request: Request) -> Response:
    """Compare a layer with the ground truth."""
    found = _entry(shelf, request)
    label_set = found.label_set(asked(request, "set"))
    return Facts(shelf.score(found, label_set, asked(request, "layer")), headers=FRESH)


# --- Pictures -------------------------------------------------------------------------------------------------------


def image_tile(shelf: Shelf, request: Request) -> Response:
    """Send a deep-zoom tile of a slide."""
    found, place = _entry(shelf, request), _place(request)
    content = shelf.pictures.tile(shelf.source(found), found.mpp, place[0], place[2], place[1])
    return Response(content, media_type="image/jpeg", headers=KEPT)


def label_tile(shelf: Shelf, request: Request) -> Response:
    """Send a tile of a layer: class indices, one byte each, which the browser inflates."""
    found = _entry(shelf, request)
    layer = shelf.layer(found, found.label_set(asked(request, "set")), asked(request, "layer"))
    headers, tile = {**KEPT, "content-encoding": "deflate"}, layer.tile(*_place(request))
    decode(tile)  # a browser would not say what is wrong with a damaged one
    return Response(tile, media_type="application/octet-stream", headers=headers)


def thumbnail(shelf: Shelf, request: Request) -> Response:
    """Send a small picture of an entry with its label map."""
    found, name = _entry(shelf, request), request.query_params.get("set")
    palette = "safe" if request.query_params.get("palette") == "safe" else "published"
    content = shelf.thumbnail(found, found.label_set(name) if name else None, palette)
    return Response(content, media_type="image/jpeg", headers=KEPT)


def _entry(shelf: Shelf, request: Request):
    return shelf.library.entry(asked(request, "id"))


def _place(request: Request) -> tuple[int, int, int]:
    try:
        level, row, column = (int(request.query_params[name]) for name in ("level", "row", "column"))
    except ValueError:
        raise HTTPException(400, "level, row and column are whole numbers") from None
    return level, row, column
