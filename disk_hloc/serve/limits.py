"""What a server takes from its clients, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        upload_bytes: the largest body of a request.
        pixels: of a photo.
        queue: how many queries may wait besides the one that runs.
        answer_seconds: how long a client waits for its answer, from the end of its upload.
        uploads: how many photos may be on their way at a time.
        upload_seconds: how long an upload may take.
        idle_seconds: how long a connection may be open without a whole request.
        connections: how many may be open at a time.
    """

    upload_bytes: int = 32_000_000
    pixels: int = 64_000_000
    queue: int = 8
    answer_seconds: float = 30.0
    uploads: int = 16
    upload_seconds: float = 60.0
    idle_seconds: float = 15.0
    connections: int = 256


class Refused(Exception):
    """A request that gets no answer but a status and a reason.

    Attributes:
        status: of HTTP.
        reason: one line for the client.
        retry_after: seconds, for the header of this name; or None.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after
