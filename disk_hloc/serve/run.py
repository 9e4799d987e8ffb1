"""Serve a map until a signal comes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from disk_hloc.errors import DiskHlocError
from disk_hloc.log import logger

from .limits import Limits

_LOOPBACK = ("127.", "::1")


def main(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_hosts: Sequence[str] = (),
    limits: Limits | None = None,
    device: str = "auto",
) -> None:
    """Serve a map over HTTP; returns after SIGINT or SIGTERM.

    To be called first thing in a process of its own: OpenCV reads its limit when it is imported.

    Args:
        folder: of ``disk-hloc map build``.
        host: the address to listen on.
        port: likewise; 0 takes a free one.
        allowed_hosts: names by which browsers reach the server besides its address, as where
            another server is before it. Without them, any is allowed unless the address is
            loopback.
        limits: see :class:`disk_hloc.serve.limits.Limits`.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        DiskHlocError: there is no map, the port is taken, or FastAPI or uvicorn are missing.
    """
    limits = limits or Limits()
    # A port that is taken is told at once.
    with _listen(host, port) as listener:
        # A header that Pillow and OpenCV read differently gets no further than this.
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(limits.pixels))
        _serve(folder, listener, host, allowed_hosts, limits, device)


def _serve(
    folder: Path,
    listener: socket.socket,
    host: str,
    allowed_hosts: Sequence[str],
    limits: Limits,
    device: str,
) -> None:
    try:
        import python_multipart  # noqa: F401

        from .app import Service, create_app
        from .guard import LOOPBACK, Guard
        from .server import Server
    except ImportError as error:
        if (error.name or "").startswith("disk_hloc"):
            raise
        raise DiskHlocError(
            f"disk-hloc map serve needs {error.name}: pip install 'disk_hloc[serve]'"
        ) from error
    from disk_hloc.localizer import Localizer

    address, port, *_ = listener.getsockname()
    is_loopback = address.startswith(_LOOPBACK)
    if not is_loopback:
        logger.warning(
            "Whoever reaches %s can ask this server and see the map's photos: it has no passwords "
            "and no encryption", address,
        )  # fmt: skip
    start = time.perf_counter()
    service = Service(Localizer(folder, device=device), limits)
    names = {*allowed_hosts, *LOOPBACK, host, address}
    app = Guard(create_app(service), names if is_loopback or allowed_hosts else None)
    logger.info(
        "Map of %d photos, read in %.1f s", len(service.localizer.index.names),
        time.perf_counter() - start,
    )  # fmt: skip
    shown = f"[{address}]" if ":" in address else address
    logger.info("Serving at http://%s:%d (Ctrl-C stops)", shown, port)
    Server(app, service).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        ((family, *_, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DiskHlocError(
            f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port"
        ) from error
