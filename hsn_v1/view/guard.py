"""A guard in front of the server: this machine's own pages may see the results, or whoever has the token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

LOCAL = ("127.0.0.1", "localhost", "::1")

#: A style sheet that OpenSeadragon adds to the page, by its hash.
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


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    reason: str


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that refuses what comes from other sites, and all that would write.

    Attributes
    ----------
    app : ASGI application
    host : str
        Where the server listens.
    token : str
        Asked for unless empty: once in the address, later in a cookie.
    cookie : str
        The cookie's name.
    """

    app: object
    host: str = LOCAL[0]
    token: str = ""
    cookie: str = "hsn_v1"

    async def __call__(self, scope, receive, send):
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        given = query.pop("token", None)

        async def send_guarded(message):
            if message["type"] == "http.response.start":
                added = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if refusal := self.refusal(scope["method"], headers, given):
            return await _answer(send_guarded, refusal.status, refusal.reason)
        if given is not None and self.token:
            location = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(query)}" if query else "")
            cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Lax; Path=/"
            return await _answer(send_guarded, 303, "", {"location": location, "set-cookie": cookie})
        return await self.app(scope, receive, send_guarded)

    def refusal(self, method: str, headers: dict[str, str], given: str | None) -> Refusal | None:
        """Return why a request is refused, or None."""
        if method not in ("GET", "HEAD"):
            return Refusal(405, "read only: nothing but GET")
        if not self.is_own_host(headers.get("host", "")):
            return Refusal(421, "this server goes by another name")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.lower() != f"http://{headers['host'].lower()}"
        if foreign or (site not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate"):
            return Refusal(403, "other sites' pages may not read this")
        if self.token:
            known = given if given is not None else _cookies(headers.get("cookie", "")).get(self.cookie, "")
            if not secrets.compare_digest(known.encode(), self.token.encode()):
                return Refusal(401, "open the address with the token that hsn-v1 view printed")
        return None

    def is_own_host(self, value: str) -> bool:
        """Whether the header Host names this server: no name that somebody else may have pointed to it."""
        try:
            parts = urlsplit(f"//{value}")
            name = (parts.hostname or "") if parts.port is None or parts.netloc == value else ""
        except ValueError:  # no address, or no port
            return False
        if name in LOCAL or not self.token:
            return name in LOCAL
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in {self.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


async def _answer(send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    lines = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **(headers or {})}
    encoded = [(key.encode(), value.encode()) for key, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})
