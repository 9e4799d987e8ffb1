"""The HTTP server: uvicorn's, which also closes idle connections and ends within a second."""

from __future__ import annotations

import json
import socket
import time

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .app import Service

# The command ends 1.5 s after a signal, whatever happens (disk_hloc.cli.stopping).
_GRACE_SECONDS = 0.5


class _Protocol(H11Protocol):
    """HTTP, whose refusals of what is no HTTP have a reason in JSON, too."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"reason": "the request is not HTTP, or its length is wrong"}).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        for event in (
            h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage(),
        ):  # fmt: skip
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM, then raises the signal again for who had its handler.

    Args:
        app: the application.
        service: what it answers with.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                app, loop="asyncio", http=_Protocol, ws="none", lifespan="off", log_config=None,
                log_level="error", access_log=False, server_header=False, proxy_headers=False,
                limit_concurrency=service.limits.connections, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        self._service = service
        self._idle_since: dict[object, float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Close connections without a whole request: uvicorn lets them take all places."""
        if counter % 10 == 0:
            self._close_idle(time.monotonic())
        return await super().on_tick(counter)

    def _close_idle(self, now: float) -> None:
        idle: dict[object, float] = {}
        for connection in list(self.server_state.connections):
            cycle = connection.cycle  # type: ignore[union-attr]
            if cycle is None or cycle.response_complete:
                # A new request has a new cycle.
                key = connection, cycle
                idle[key] = self._idle_since.get(key, now)
                if now - idle[key] > self._service.limits.idle_seconds:
                    connection.transport.abort()
        self._idle_since = idle

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the query that runs end if it soon does, and refuse the others."""
        for server in self.servers:
            server.close()
        await self._service.stop(_GRACE_SECONDS)
        await super().shutdown(sockets)
