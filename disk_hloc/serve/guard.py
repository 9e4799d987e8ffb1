"""Who may ask, and the headers of every answer."""

from __future__ import annotations

import json
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_HEADERS = {
    # Those of the page are its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses requests that a browser makes for pages of other sites.

    Such a page can send a form to a server in its visitor's network, also to one on loopback; and
    where its own name points to the server's address (DNS rebinding), read the answer, too.

    Args:
        app: what to guard.
        hosts: the names by which the server is asked for; None allows all.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        reason = self._refusal(scope["method"], Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, send_with_headers)
            return
        body = json.dumps({"reason": reason}).encode()
        headers = [
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        ]  # fmt: skip
        await send_with_headers({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, method: str, headers: Headers) -> str | None:
        """Return why a request is refused, or None."""
        host, origin = headers.get("host"), headers.get("origin")
        if self._hosts is not None and host is not None and _name(host) not in self._hosts:
            return "the server is not known by this name: start it with --allow-host NAME"
        if method in ("GET", "HEAD"):
            return None
        foreign = origin is not None and _place(origin) != (host or "").lower()
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "pages of other sites may not ask this server"
        return None


def _name(host: str) -> str | None:
    """Return a host's name without its port; None where it is broken."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _place(url: str) -> str | None:
    """Return host and port of an URL; None where it is broken."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None
