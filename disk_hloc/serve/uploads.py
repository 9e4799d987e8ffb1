"""Uploads: a photo in a form, read within bounds and looked at before it is decoded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.images import ImageReadError, TooManyPixels, opened

from .limits import Limits, Refused

PHOTO, CAMERA = "photo", "camera"
# Those that phones and cameras write; the decoders of others have seen fewer hostile files.
FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP", "HEIF": "HEIC",
           "AVIF": "AVIF"}  # fmt: skip
_CAMERA_BYTES = 1000
# Encoders write up to a dozen scans. A file of a few bytes a scan takes hours to decode.
_MAX_SCANS = 100
# What else of a refused body is read, so that the client gets to read the reason.
_DRAIN_BYTES, _DRAIN_SECONDS = 64_000_000, 5.0


@dataclass(frozen=True)
class Query:
    """What a client asks.

    Attributes:
        photo: the bytes of its file.
        camera: COLMAP's text of its intrinsics, or None.
    """

    photo: bytes
    camera: str | None


async def read_query(request: Request, limits: Limits) -> Query:
    """Read the form of a request, and check what it holds as far as that is quickly done.

    Raises:
        Refused: it is too large or too slow, or not a form with a photo and at most a camera.
    """
    chunks = request.stream()
    try:
        reading = _read_form(request, chunks, limits)
        query = await asyncio.wait_for(reading, limits.upload_seconds)
    except ClientDisconnect:
        raise Refused(400, "the connection was closed before the end of the upload") from None
    except (asyncio.TimeoutError, TimeoutError):
        raise Refused(
            408, f"the upload took more than {limits.upload_seconds:g} s: send a smaller photo"
        ) from None
    except Refused:
        # Who waits for a go-ahead before sending the body needs none to see the answer.
        if "expect" not in request.headers:
            await _drain(chunks)
        raise
    await asyncio.to_thread(check, query, limits.pixels)
    return query


async def _read_form(request: Request, chunks: AsyncIterator[bytes], limits: Limits) -> Query:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
        "multipart/form-data"
    ):
        raise Refused(415, f"send a form (multipart/form-data) with the file {PHOTO!r}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "compressed bodies are not read: send the photo as it is")
    too_large = Refused(
        413, f"the upload has more than {limits.upload_bytes / 1e6:g} MB: send a smaller photo"
    )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.upload_bytes:
        raise too_large

    async def bounded() -> AsyncGenerator[bytes, None]:
        count = 0
        async for chunk in chunks:
            count += len(chunk)
            if count > limits.upload_bytes:
                raise too_large
            yield chunk

    parser = MultiPartParser(
        request.headers, bounded(), max_files=1, max_fields=1, max_part_size=_CAMERA_BYTES
    )
    parser.spool_max_size = limits.upload_bytes  # in memory, never in a file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the form is broken: {error.message}") from error
    except (LookupError, ValueError) as error:  # of texts in an unknown or wrong encoding
        raise Refused(400, "the form is broken: its text cannot be decoded") from error
    unknown = sorted(set(form) - {PHOTO, CAMERA})
    if unknown:
        raise Refused(
            400, f"the form has {unknown[0][:40]!r}: it may have {PHOTO!r} and {CAMERA!r}, once"
        )
    photo, camera = form.get(PHOTO), form.get(CAMERA) or ""
    if photo is None:
        raise Refused(400, f"the form has no whole file {PHOTO!r}")
    if not isinstance(photo, UploadFile) or not isinstance(camera, str):
        raise Refused(400, f"{PHOTO!r} is to be a file with a file name, and {CAMERA!r} a text")
    content = await photo.read()
    await photo.close()
    return Query(content, camera.strip() or None)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what else a client sends, within bounds: closed earlier, it would see no answer."""

    async def drain() -> None:
        count = 0
        async for chunk in chunks:
            count += len(chunk)
            if count > _DRAIN_BYTES:
                return

    try:
        await asyncio.wait_for(drain(), _DRAIN_SECONDS)
    except (asyncio.TimeoutError, TimeoutError, ClientDisconnect, RuntimeError):
        return  # the connection is closed after the answer


def check(query: Query, max_pixels: int) -> None:
    """Check the header of a photo, and its camera.

    Args:
        query: what a client sent.
        max_pixels: of the photo.

    Raises:
        Refused: it is no photo that is read, too large, or made to take long to decode; or the
            camera is not one of COLMAP's.
    """
    limit = f"photos of up to {max_pixels / 1e6:g} million pixels are taken: send a smaller one"
    try:
        with opened(query.photo) as image:
            name = None if image is None else image.format
            size = (0, 0) if image is None else image.size
    except TooManyPixels as error:
        raise Refused(413, limit) from error
    except (ImageReadError, MemoryError) as error:
        raise Refused(422, f"the photo cannot be read: {error}") from error
    if name not in FORMATS:
        known = ", ".join(dict.fromkeys(FORMATS.values()))
        raise Refused(415, f"the file is no photo that is read here: send {known}")
    if size[0] * size[1] > max_pixels:
        raise Refused(413, f"it has {size[0]} x {size[1]} pixels, but {limit}")
    if name in ("JPEG", "MPO") and count_scans(query.photo, _MAX_SCANS) > _MAX_SCANS:
        raise Refused(422, f"the photo cannot be read: it has more than {_MAX_SCANS} scans")
    if query.camera is not None:
        try:
            colmap.camera_object(query.camera, *size)
        except DiskHlocError as error:
            raise Refused(422, str(error)) from error


# A marker in a JPEG, but for the escaped 0xff and the marks of restarts in a scan.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA


def count_scans(jpeg: bytes, limit: int) -> int:
    """Count the scans of a JPEG's first image, up to ``limit + 1``."""
    count, place = 0, 0
    while count <= limit:
        found = _MARKER.search(jpeg, place)
        if found is None or found[1][0] == _END:
            break
        place = found.end()
        count += found[1][0] == _SCAN
        # The segments of a marker have their length first, and any bytes in them.
        if found[1][0] not in (_START, 0x01):
            place += int.from_bytes(jpeg[place : place + 2], "big")
    return count
