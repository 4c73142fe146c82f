"""Names on their way to the browser and back: JavaScript and JSON have no letters for bytes that are not UTF-8."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

#: Python's letters for such bytes, and letters for private use that stand for them in the browser.
_AWAY = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}
_BACK = {there: here for here, there in _AWAY.items()}


class Facts(JSONResponse):
    """JSON that may hold names of any bytes."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).translate(_AWAY).encode()


class Line(PlainTextResponse):
    """A line that may hold names of any bytes."""

    def render(self, content: str) -> bytes:
        """Return the body."""
        return content.translate(_AWAY).encode()


def asked(request: Request, name: str) -> str:
    """Return a parameter of a request, as names are here; KeyError if it is not there."""
    return request.query_params[name].translate(_BACK)
