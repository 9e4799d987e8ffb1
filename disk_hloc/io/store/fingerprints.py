"""Fingerprints: what each entry of a store was made of.

An entry has one attribute, :data:`ATTRIBUTE`, a line of digests. The first is that of the entry's
own arrays; the others are those of its inputs, as the stage that wrote it defines them: the photo
and its mask for features, the features of both images for matches. hloc ignores the attribute.
docs/stores.md explains how a run uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from disk_hloc.io.digests import digest_of_arrays

from .journal import Dataset

ATTRIBUTE = b"disk_hloc_made_of"
# Stands for an input that there is not, such as the mask of a photo without one.
NOTHING = "-"
# The longest line that is read.
_MAX_BYTES = 512
_BUFFER_TYPE = h5t.py_create(np.dtype(f"S{_MAX_BYTES}"))


class Fingerprint(NamedTuple):
    """What an entry holds and what it was made of.

    Attributes:
        content: digest of the entry's own arrays.
        inputs: digests of what it was made of, separated by spaces.
    """

    content: str
    inputs: str


def parse(line: str | None) -> Fingerprint | None:
    """Return the fingerprint of an attribute's text; None for no text."""
    if not line:
        return None
    content, _, inputs = line.partition(" ")
    return Fingerprint(content, inputs)


def content_of(name: str, datasets: Sequence[Dataset]) -> str:
    """Return the digest of an entry's arrays, which does not depend on the entry's name."""
    return digest_of_arrays(
        (dataset.path.removeprefix(f"{name}/"), np.asarray(dataset.array)) for dataset in datasets
    )


def write(file: h5py.File, name: str, made_of: str) -> None:
    """Write the fingerprint of an entry, a group or an array, which has none yet."""
    if not made_of:
        return
    value = np.bytes_(made_of)
    item = h5o.open(file.id, name.encode())
    h5a.create(item, ATTRIBUTE, h5t.py_create(value.dtype), h5s.create(h5s.SCALAR)).write(
        np.array(value)
    )


def read(item: h5g.GroupID) -> str | None:
    """Return the text of an entry's attribute; None if it has no attribute of ours."""
    # Numbers or texts of variable length cannot be converted, and raise.
    try:
        buffer = np.zeros((), f"S{_MAX_BYTES}")
        h5a.open(item, ATTRIBUTE).read(buffer, _BUFFER_TYPE)
        return bytes(buffer[()]).decode("ascii")
    except (KeyError, OSError, TypeError, ValueError, RuntimeError):
        return None


def read_of(file: h5py.File, name: str) -> Fingerprint | None:
    """Return the fingerprint of one entry of an open file; None if it has no fingerprint."""
    try:
        item = h5o.open(file.id, name.encode())
    except (KeyError, OSError, RuntimeError):
        return None
    return parse(read(item))


def names_of(file: h5py.File) -> list[str] | None:
    """Return the names of the entries of a file, if each has a fingerprint; None otherwise."""
    names = list(_names_of(file.id, b""))
    return None if None in names else [name.decode() for name in names if name is not None]


def _names_of(group: h5g.GroupID, prefix: bytes) -> Iterator[bytes | None]:
    for name in group:
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            yield None
            continue
        item = h5o.open(group, name)
        if read(item) is not None:
            # An attribute that something else added must not be lost.
            is_ours = isinstance(item, h5d.DatasetID) or h5a.get_num_attrs(item) == 1
            yield prefix + name if is_ours else None
        elif isinstance(item, h5g.GroupID) and len(item):
            yield from _names_of(item, prefix + name + b"/")
        else:
            yield None
