"""Requests to a server of a map, in raw HTTP where they are broken."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY = "boundary-of-the-form"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Answer:
    """Status, headers (by lower-case names) and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks the server of a port of this machine."""

    port: int

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def localize(self, photo: bytes, camera: str | None = None, **headers: str) -> Answer:
        parts = [file_part("photo", photo)]
        if camera is not None:
            parts.append(text_part("camera", camera))
        return self.post(form(*parts), **headers)

    def post(self, body: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/localize", body, {"Content-Type": FORM, **named})

    def raw(self, content: bytes, leave: bool = False) -> bytes:
        """Send bytes; return all that comes until the server closes, or nothing does for 5 s."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(content)
            received = b""
            if leave:
                return received
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received


@dataclass(frozen=True)
class Server(Client):
    """A running ``disk-hloc map serve``; ``log`` gets what it writes on stderr."""

    process: subprocess.Popen[bytes]
    log: Path

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    def stop(self, number: int) -> tuple[int, float]:
        """Send a signal; return the exit code and the seconds until then."""
        start = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(timeout=20), time.monotonic() - start


def file_part(name: str, content: bytes, filename: str | None = "a.jpg") -> bytes:
    shown = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def text_part(name: str, text: str) -> bytes:
    return file_part(name, text.encode(), None)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def serving(folder: Path, log: Path, *options: str) -> Iterator[Server]:
    """Serve a map by the command, on a free port, until the block ends."""
    command = [sys.executable, "-m", "disk_hloc", "map", "serve", str(folder), "--port", "0"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, *options], stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        try:
            yield Server(_port(process, log), process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://\S+:(\d+) ", log.read_text())
        if found:
            return int(found[1])
        select.select([], [], [], 0.1)
    raise AssertionError(f"the server did not start: {log.read_text()}")
