"""HEIC and AVIF photos: which file is one, and who decodes it.

Both are HEIF files (ISO/IEC 23008-12), which begin with a box ``ftyp``: its length in 4 bytes,
``ftyp``, the major brand, 4 bytes of version, and the compatible brands.
"""

from __future__ import annotations

from functools import cache

# So many bytes of a file tell what it is.
PREFIX_BYTES = 64
# "mif1" and "msf1" say that the file holds pictures, not how they are coded.
_HEVC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_AV1 = frozenset((b"avif", b"avis"))
_ANY = frozenset((b"mif1", b"msf1", b"mif2"))

INSTALL_HEIC = (
    'a HEIC photo, and no decoder is installed: pip install "disk_hloc[heic]" (or pillow-heif)'
)
INSTALL_AVIF = (
    "an AVIF photo, which the installed OpenCV and Pillow do not decode: pip install --upgrade "
    "pillow"
)


def is_heic(prefix: bytes) -> bool:
    """Return whether a file that begins with ``prefix`` is a HEIF file that is not AVIF."""
    brands = _brands(prefix)
    return bool(brands & _HEVC) or (bool(brands & _ANY) and not is_avif(prefix))


def is_avif(prefix: bytes) -> bool:
    """Return whether a file that begins with ``prefix`` is AVIF."""
    brands = _brands(prefix)
    return bool(brands & _AV1) and not brands & _HEVC


@cache
def register_heic() -> bool:
    """Have Pillow read HEIC by pillow-heif (the extra ``heic``); False if it is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _brands(prefix: bytes) -> frozenset[bytes]:
    if prefix[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(prefix[:4], "big"), PREFIX_BYTES)
    return frozenset(
        prefix[start : start + 4] for start in (8, *range(16, end, 4)) if len(prefix) >= start + 4
    )
