"""Download files from the web, and resume interrupted downloads."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from disk_hloc.errors import DiskHlocError
from disk_hloc.log import logger

RETRIES = 6
# The pause before the first retry, which doubles with each further one.
PAUSE_SECONDS = 2.0
TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class Stopped(DiskHlocError):
    """An error that would also stop the next file: no connection, or a full disk."""


class _Dropped(Exception):
    """The server or the network failed in a way that may be temporary."""


def read_text(url: str, retries: int = 1) -> str:
    """Download a small text file.

    Raises:
        DiskHlocError: the file cannot be downloaded.
    """
    for attempt in range(retries + 1):
        try:
            with _open(url) as response:
                return str(response.read().decode("utf-8", "replace"))
        except (_Dropped, OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        if attempt < retries:
            time.sleep(PAUSE_SECONDS)
    raise DiskHlocError(
        f"cannot download {url}: {reason}; check the connection (https_proxy sets a proxy), or "
        "give a mirror with --url"
    )


def size_of(url: str) -> int | None:
    """Return the size of a file in bytes, or None if the server does not report it."""
    try:
        with _open(url, method="HEAD") as response:
            length = response.headers.get("Content-Length")
    except (DiskHlocError, _Dropped, OSError, http.client.HTTPException):
        return None
    return int(length) if length and length.isdigit() else None


def part_of(path: Path) -> Path:
    """Return the path of a file while it is incomplete."""
    return path.with_name(f"{path.name}.part")


def fetch(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Download a file, which gets its name once it is complete.

    Until then the data are in ``path`` with the suffix ``.part``. If the download is interrupted,
    another call resumes it if the server supports HTTP ranges, or starts over. A dropped connection
    is retried.

    Args:
        url: http or https.
        path: the file to write; its folder is created.
        md5: MD5 sum in hexadecimal; None only checks the length.
        progress: called with the number of bytes received; negative if bytes of an earlier run are
            discarded.

    Raises:
        Stopped: the connection failed repeatedly, or the disk is full.
        DiskHlocError: the server does not have the file, or it has another MD5 sum and was removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    failures = 0
    while True:
        before = _size(part)
        try:
            whole = _append(url, part, progress)
            reason = "the connection was closed early"
        except (_Dropped, http.client.HTTPException) as error:
            whole, reason = False, _reason(error)
        if whole:
            break
        failures = 0 if _size(part) > before else failures + 1
        if failures > RETRIES:
            raise Stopped(
                f"{url} failed {failures} times in a row ({reason}): {_size(part)} bytes are kept "
                f"in {part}; run the same command again to resume"
            )
        pause = PAUSE_SECONDS * 2 ** max(0, failures - 1)
        logger.warning("%s: %s; retrying in %.0f s", path.name, reason, pause)
        time.sleep(pause)
    if md5 is not None and md5_of(part) != md5:
        progress(-_size(part))
        part.unlink()
        raise DiskHlocError(
            f"{url} does not have the MD5 sum {md5} and was removed: run the same command again; "
            "if this happens again, the file on the server is broken"
        )
    part.replace(path)


def md5_of(path: Path) -> str:
    """Compute the MD5 sum of a file in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(8 * _CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _append(url: str, part: Path, progress: Callable[[int], object]) -> bool:
    """Download the rest of a file, and return whether it is complete."""
    have = _size(part)
    with _open(url, start=have) as response:
        if response.status == 416:
            total = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if total and int(total[1]) == have:
                return True
            progress(-have)
            part.unlink()
            raise _Dropped("the file on the server is shorter than the part downloaded before")
        given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        resumes = response.status == 206 and given is not None and int(given[1]) == have
        if have and not resumes:
            logger.warning("%s: the server cannot resume, so the download starts over", part.name)
            progress(-have)
            have = 0
        length = response.headers.get("Content-Length")
        try:
            file = part.open("ab" if have else "wb")
        except OSError as error:
            raise _unwritable(part, error) from error
        with file:
            while block := _read(response):
                try:
                    file.write(block)
                    # A full disk must fail here, before the bytes are counted.
                    file.flush()
                except OSError as error:
                    raise _unwritable(part, error) from error
                progress(len(block))
    return length is None or _size(part) == have + int(length)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except OSError as error:
        raise _Dropped(_reason(error)) from error


def _open(url: str, *, method: str = "GET", start: int = 0) -> http.client.HTTPResponse:
    """Return a response with status 200, 206 or 416."""
    if not url.startswith(("http://", "https://")):
        raise DiskHlocError(f"{url} is not a web address: expected http:// or https://")
    request = urllib.request.Request(url, method=method, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error  # type: ignore[return-value]
        if error.code in _TRANSIENT:
            raise _Dropped(f"{error.code} {error.reason}") from error
        raise DiskHlocError(
            f"{url}: the server replied {error.code} {error.reason}; give a mirror with --url"
        ) from error
    except OSError as error:
        raise _Dropped(_reason(error)) from error
    return response


def _unwritable(path: Path, error: OSError) -> Stopped:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Stopped(
            f"the disk of {path.parent} is full: the downloaded part is kept in {path.name}; free "
            "some space and run the same command again"
        )
    return Stopped(f"cannot write {path}: {error.strerror}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split()) or type(error).__name__
