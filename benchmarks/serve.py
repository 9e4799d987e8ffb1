"""Measure a map that is served: many clients at a time, errors, memory.

    python benchmarks/serve.py MAP PHOTO [PHOTO ...] [--requests 500] [--clients 8] [--json OUT]

Starts ``disk-hloc map serve`` on a free port. Each client sends one photo after the other, and
comes back after the time in Retry-After where the queue is full, as the page does. The seconds of a
request are those of the try that was answered; the waits before it are counted apart. Memory is
that of the server after each client has had an answer, and at the end.
"""

from __future__ import annotations

import argparse
import http.client
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import report

BOUNDARY = "boundary-of-the-form"
START_SECONDS = 120


@dataclass
class Results:
    """What the clients have seen."""

    seconds: list[float] = field(default_factory=list)
    localized: int = 0
    waits: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queue", type=int, default=8, help="of the server (default 8)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bodies = [form(path.read_bytes()) for path in args.photos]
    command = [sys.executable, "-m", "disk_hloc", "map", "serve", str(args.map)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        start = time.perf_counter()
        with log.open("wb") as stderr:
            server = subprocess.Popen(
                [*command, "--port", "0", "--queue", str(args.queue)], stderr=stderr
            )
        try:
            port = wait_for_port(server, log)
            figures: dict[str, Any] = {"seconds to start": time.perf_counter() - start}
            load(figures, server.pid, port, bodies, args.requests, args.clients)
        finally:
            server.terminate()
            server.wait()
    report.write(args.json, figures)


def load(
    figures: dict[str, Any], pid: int, port: int, bodies: list[bytes], requests: int, clients: int
) -> None:
    """Send the requests, and add the figures."""
    warm = Results()
    figures["MB after the start"] = memory_mb(pid)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda body: ask(port, body, warm), islice(cycle(bodies), clients)))
        figures[f"MB after {clients} requests"] = memory_mb(pid)
        results = Results()
        start = time.perf_counter()
        list(pool.map(lambda body: ask(port, body, results), islice(cycle(bodies), requests)))
        total = time.perf_counter() - start
    figures[f"MB after {requests} more"] = memory_mb(pid)
    figures["requests"], figures["clients"] = requests, clients
    figures["requests a second"] = requests / total
    if len(results.seconds) > 1:
        percentiles = statistics.quantiles(results.seconds, n=100, method="inclusive")
        figures["p50: s"], figures["p95: s"] = percentiles[49], percentiles[94]
    figures["localized"] = results.localized
    figures["waits for the queue"] = results.waits
    figures["errors"] = sum(results.errors.values())
    for name, count in results.errors.items():
        figures[f"error: {name}"] = count


def ask(port: int, body: bytes, results: Results) -> None:
    """Send one photo until it is answered."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    while True:
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("POST", "/localize", body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            results.errors[type(error).__name__] += 1
            return
        finally:
            connection.close()
        if response.status == 429:
            results.waits += 1
            time.sleep(float(response.headers["Retry-After"]))
            continue
        if response.status != 200:
            results.errors[f"status {response.status}"] += 1
            return
        results.seconds.append(time.perf_counter() - start)
        results.localized += b'"localized":true' in content
        return


def form(photo: bytes) -> bytes:
    """Return a form with a photo."""
    part = 'Content-Disposition: form-data; name="photo"; filename="photo"'
    return f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def wait_for_port(server: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port that the server says it listens on."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"http://\S+:(\d+) ", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text()}")


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process in MB; on Linux alone."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
