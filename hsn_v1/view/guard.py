"""Guard the server: only its own pages on this machine, or users with the token, may read the results."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response

LOCAL = ("127.0.0.1", "localhost", "::1")

#: Hash of a style sheet that OpenSeadragon adds to the page.
OPENSEADRAGON_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'self'; img-src 'self' blob: data:; style-src 'self' {OPENSEADRAGON_STYLE}; worker-src blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


#: Header of responses that a browser may not cache.
FRESH = {"cache-control": "no-store"}


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that refuses requests from other sites, and all methods but GET and HEAD."""

    app: object
    host: str = LOCAL[0]  #: address that the server listens on
    token: str = ""  #: required unless empty: once in the address, then in a cookie
    cookie: str = "hsn_v1"  #: name of the cookie

    async def __call__(self, scope, receive, send):
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        given = query.pop("token", None)

        async def send_guarded(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self.refusal(scope["method"], headers, given) or self.app
        if answer is self.app and given is not None and self.token:
            location = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(query)}" if query else "")
            answer = RedirectResponse(location, 303, FRESH)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return await answer(scope, receive, send_guarded)

    def refusal(self, method: str, headers: dict[str, str], given: str | None) -> Response | None:
        """Return the response that refuses a request, or None if it is allowed."""
        if method not in ("GET", "HEAD"):
            return PlainTextResponse("read only: nothing but GET", 405, FRESH)
        if not self.is_own_host(headers.get("host", "")):
            return PlainTextResponse("this server goes by another name", 421, FRESH)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.lower() != f"http://{headers['host'].lower()}"
        if foreign or (site not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate"):
            return PlainTextResponse("other sites' pages may not read this", 403, FRESH)
        if self.token:
            token = given if given is not None else cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
            if not secrets.compare_digest(token.encode(), self.token.encode()):
                return PlainTextResponse("open the address with the token that hsn-v1 view printed", 401, FRESH)
        return None

    def is_own_host(self, value: str) -> bool:
        """Return whether the Host header names this server, and not a name that an attacker pointed to it."""
        try:
            parts = urlsplit(f"//{value}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:  # invalid host or port
            return False
        if name in LOCAL or not self.token:
            return name in LOCAL
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in {self.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
