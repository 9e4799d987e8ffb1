"""Digests of files, arrays and plain data: BLAKE2b (RFC 7693), 128 bits, in hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

_DIGEST_BYTES = 16
_CHUNK_BYTES = 1 << 20


def digest_of(*parts: bytes) -> str:
    """Return the digest of bytes."""
    return digest_of_each(parts)


def digest_of_each(parts: Iterable[bytes]) -> str:
    """Return the digest of bytes, one after the other, that need not fit into memory."""
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return digest_of_each(iter(lambda: file.read(_CHUNK_BYTES), b""))


def digest_of_data(value: Any) -> str:
    """Return the digest of plain data: mappings, lists, strings, numbers."""
    return digest_of(json.dumps(value, sort_keys=True, default=str).encode())


def digest_of_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the digest of arrays and their names, in any order."""
    parts: list[bytes] = []
    for name, array in sorted(arrays, key=lambda item: item[0]):
        parts += [f"{name} {array.dtype.str} {array.shape}\n".encode(), array.tobytes()]
    return digest_of(*parts)
