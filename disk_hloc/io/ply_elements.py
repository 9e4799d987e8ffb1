"""Read the values of a PLY file's elements (:mod:`disk_hloc.io.ply`), text or binary."""

from __future__ import annotations

import mmap
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

_CODES = {
    "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d",
}  # fmt: skip


class Broken(Exception):
    """What is wrong with a file; ``str(error)`` follows its name."""


@dataclass(frozen=True)
class Property:
    """A value or a list of each row of an element, of numpy's type ``dtype``.

    ``length`` is the type of the number before a list, None of a single value.
    """

    name: str
    dtype: str
    length: str | None


@dataclass(frozen=True)
class Element:
    """A table of a file, with ``count`` rows."""

    name: str
    count: int
    properties: list[Property]


class TextElements:
    """Reads the elements of a text file in their order, a row in each line."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def columns(self, element: Element, names: list[str]) -> list[np.ndarray]:
        """Read an element without lists, and return (count,) values of some properties."""
        listed = [one.name for one in element.properties]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*no data")
                values = np.loadtxt(
                    self.file, np.float64, usecols=[listed.index(name) for name in names],
                    max_rows=element.count, ndmin=2, encoding="latin1", comments=None,
                )  # fmt: skip
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise Broken(f"has a {element.name} that is not numbers: {reason}") from error
        if len(values) < element.count:
            raise _cut_short()
        return list(values.T)

    def lists(self, element: Element, name: str) -> list[np.ndarray]:
        """Read an element, and return a list property, as an array of each length of lists."""
        return _by_length(self._row(element)[name] for _ in range(element.count))

    def skip(self, element: Element) -> None:
        for _ in range(element.count):
            self._row(element)

    def _row(self, element: Element) -> dict[str, tuple[int, ...]]:
        """Read a row, and return its lists; those that are not of integers are empty."""
        line = self.file.readline()
        if not line:
            raise _cut_short()
        words, at = line.split(), 0
        row: dict[str, tuple[int, ...]] = {}
        try:
            for one in element.properties:
                count = 1
                if one.length is not None:
                    count, at = int(words[at]), at + 1
                if not 0 <= count <= len(words) - at:
                    raise IndexError
                if one.length is not None:
                    integers = one.dtype[0] != "f"
                    row[one.name] = tuple(map(int, words[at : at + count])) if integers else ()
                at += count
        except (IndexError, ValueError) as error:
            text = line[:60].decode("latin1").strip()
            raise Broken(f"has a {element.name} that is broken: {text!r}") from error
        return row


class BinaryElements:
    """Reads the elements of a binary file in their order, without a copy of the file.

    Args:
        file: the file, at the end of its header.
        order: numpy's byte order, ``<`` or ``>``.
    """

    def __init__(self, file: BinaryIO, order: str) -> None:
        self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = file.tell()
        self.order = order

    def columns(self, element: Element, names: list[str]) -> list[np.ndarray]:
        """Read an element without lists, and return (count,) values of some properties."""
        rows = self._rows(element, {})
        listed = [one.name for one in element.properties]
        return [rows[f"values{listed.index(name)}"] for name in names]

    def lists(self, element: Element, name: str) -> list[np.ndarray]:
        """Read an element, and return a list property, as an array of each length of lists."""
        number = [one.name for one in element.properties].index(name)
        start = self.at
        first = next(self._walk(element))
        lengths = {
            i: len(first[i]) for i, one in enumerate(element.properties) if one.length is not None
        }
        self.at = start
        # Most files have triangles alone, whose rows are read at once.
        if self._size(element, lengths) <= len(self.data) - start:
            rows = self._rows(element, lengths)
            if all((rows[f"length{i}"] == length).all() for i, length in lengths.items()):
                return [rows[f"values{number}"].astype(np.int64)]
            self.at = start
        return _by_length(row[number] for row in self._walk(element))

    def skip(self, element: Element) -> None:
        if any(one.length is not None for one in element.properties):
            for _ in self._walk(element):
                pass
        else:
            self._rows(element, {})

    def _dtype(self, element: Element, lengths: dict[int, int]) -> np.dtype:
        """Return the type of rows whose lists have these lengths, by number of the property."""
        fields: list[tuple[str, str, tuple[int, ...]]] = []
        for i, one in enumerate(element.properties):
            if one.length is not None:
                fields.append((f"length{i}", self.order + one.length, ()))
            shape = (lengths[i],) if one.length is not None else ()
            fields.append((f"values{i}", self.order + one.dtype, shape))
        return np.dtype(fields)

    def _size(self, element: Element, lengths: dict[int, int]) -> int:
        return self._dtype(element, lengths).itemsize * element.count

    def _rows(self, element: Element, lengths: dict[int, int]) -> np.ndarray:
        dtype, size = self._dtype(element, lengths), self._size(element, lengths)
        if size > len(self.data) - self.at:
            raise _cut_short()
        if size == 0:
            return np.empty(0, dtype)
        self.at += size
        return np.frombuffer(self.data, dtype, element.count, self.at - size)

    def _walk(self, element: Element) -> Iterator[dict[int, tuple]]:
        """Yield the values of each row by number of the property."""
        for _ in range(element.count):
            row = {}
            for i, one in enumerate(element.properties):
                count = 1 if one.length is None else self._values(one.length, 1)[0]
                row[i] = self._values(one.dtype, count)
            yield row

    def _values(self, dtype: str, count: int) -> tuple:
        size = int(dtype[1]) * count
        if count < 0 or size > len(self.data) - self.at:
            raise _cut_short()
        self.at += size
        form = f"{self.order}{count}{_CODES[dtype]}"
        return struct.unpack_from(form, self.data, self.at - size)


def _by_length(rows: Iterator[tuple[int, ...]]) -> list[np.ndarray]:
    of_length: dict[int, list[tuple[int, ...]]] = {}
    for row in rows:
        of_length.setdefault(len(row), []).append(row)
    return [
        np.array(same, np.int64).reshape(len(same), length) for length, same in of_length.items()
    ]


def _cut_short() -> Broken:
    return Broken("ends before its last vertex or face: it is cut short, copy it again")
