"""What is refused before it is decoded."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from disk_hloc.io import heif
from disk_hloc.serve.limits import Refused
from disk_hloc.serve.uploads import Query, check, count_scans

LIMIT = 1_000_000
heif.register_heic()


def encoded(kind: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def many_scans(number: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    photo = encoded("JPEG", progressive=True)
    start = photo.rindex(b"\xff\xda")
    return photo[:start] + photo[start:-2] * number + photo[-2:]


PHOTOS = {
    "JPEG": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "PNG": encoded("PNG"),
    "WebP": encoded("WEBP"),
    "AVIF": encoded("AVIF"),
    "HEIC": encoded("HEIF"),
}
REFUSED = {
    "nothing": (b"", 422, "empty"),
    "a text": (b"hello\n" * 100, 415, "no photo"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "no photo"),
    "a GIF": (encoded("GIF"), 415, "no photo"),
    "a TIFF": (encoded("TIFF"), 415, "no photo"),
    "huge dimensions": (png(header(2_000_000_000, 2_000_000_000), (b"IDAT", b"")), 413, "pixels"),
    "a bomb": (png(header(30_000, 30_000), (b"IDAT", b"")), 413, "pixels"),
    "too many pixels": (encoded("PNG", (1001, 1000)), 413, "1001 x 1000"),
    "no dimensions": (png(header(0, 0)), 415, "no photo"),
    "hours of scans": (many_scans(200), 422, "scans"),
}  # fmt: skip
CAMERAS = [
    "", "NOTHING 1,2,3,4", "PINHOLE", "PINHOLE 1,2,3", "PINHOLE a,b,c,d", "PINHOLE nan,1,2,3",
    "PINHOLE inf,1,2,3", "PINHOLE -5,1,2,3", "PINHOLE 1e999,1,2,3", "SIMPLE_PINHOLE 0,1,2",
    "INVALID 1", "../../etc/passwd", "PINHOLE\0 1,2,3,4", "a" * 900,
]  # fmt: skip


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_photos_are_taken(photo: bytes) -> None:
    check(Query(photo, None), LIMIT)
    check(Query(photo, "PINHOLE 30,30,20,15"), LIMIT)


@pytest.mark.parametrize(("photo", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_photo_is_refused(photo: bytes, status: int, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        check(Query(photo, None), LIMIT)
    assert refused.value.status == status


@pytest.mark.parametrize("camera", CAMERAS)
def test_wrong_cameras_are_refused(camera: str) -> None:
    with pytest.raises(Refused) as refused:
        check(Query(PHOTOS["JPEG"], camera), LIMIT)
    assert refused.value.status == 422
    assert "\n" not in refused.value.reason


@pytest.mark.parametrize("number", [1, 7, 500])
def test_scans_are_counted(number: int) -> None:
    photo = PHOTOS["progressive"]
    before = photo.count(b"\xff\xda")
    assert count_scans(many_scans(number), 1000) == before - 1 + number
    assert count_scans(many_scans(number), 3) == 4


def test_scans_in_other_segments_and_behind_the_end_do_not_count() -> None:
    thumbnail = encoded("JPEG", (8, 8))
    photo = encoded("JPEG", progressive=True, comment=thumbnail) + b"\xff\xda" * 1000
    assert thumbnail in photo
    assert count_scans(photo, 100) == PHOTOS["progressive"].count(b"\xff\xda")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(PHOTOS)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20),
    st.floats(0, 1),
)
def test_broken_headers_are_taken_or_refused(
    kind: str, changes: list[tuple[float, int]], length: float
) -> None:
    photo = bytearray(PHOTOS[kind])
    for place, value in changes:
        photo[int(place * (len(photo) - 1))] = value
    # Any other error fails.
    with contextlib.suppress(Refused):
        check(Query(bytes(photo[: int(length * len(photo))]), "SIMPLE_PINHOLE 30,20,15"), LIMIT)
