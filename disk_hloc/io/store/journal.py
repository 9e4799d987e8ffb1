"""An append-only file of records, which survives a process that is killed at any moment.

It holds the entries that are not in the HDF5 file yet. Each record is appended with its length and
a checksum. Whatever happens, the records written before are kept, and one that is incomplete is
recognized by its checksum and dropped. docs/stores.md explains why.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
import zlib
from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.locks import open_locked
from disk_hloc.log import logger

# Before each payload: this magic, the payload's length in bytes, and the checksum of both.
_MAGIC = b"DHJ1"
_FRAME = struct.Struct("<4sQI")


@dataclass(frozen=True)
class Dataset:
    """An array and its place in the HDF5 file.

    Attributes:
        path: path in the HDF5 file, with ``/``.
        array: array of any shape and numeric dtype.
        attributes: the dataset's attributes, numbers or strings.
    """

    path: str
    array: np.ndarray
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Named records in a file that only one process can open at a time.

    Attributes:
        path: the file.
        header: the values stored by :meth:`restart` and :meth:`note`.
        made_of: the line of each record (:meth:`append`).
        dropped: number of bytes that were not a whole record and were cut off.
    """

    def __init__(self, path: Path) -> None:
        """Open or create a journal.

        Raises:
            Busy: another process has the journal open.
            DiskHlocError: the file cannot be opened, or is not a journal.
        """
        self.path = path
        self.header: dict[str, Any] = {}
        self.dropped = 0
        # Only the offsets of the records are kept in memory, since there may be millions.
        self._places: dict[str, int] = {}
        self.made_of: dict[str, str] = {}
        self._end = 0
        self._unsynced = False
        try:
            self._file = open_locked(path, path.with_suffix(""))
        except OSError as error:
            raise DiskHlocError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._scan()
        except BaseException:
            self._file.close()
            raise

    @property
    def names(self) -> KeysView[str]:
        """The names of the records, in the order in which they were first added."""
        return self._places.keys()

    @property
    def num_bytes(self) -> int:
        """The size of the file in bytes."""
        return self._end

    def restart(self, header: Mapping[str, Any]) -> None:
        """Drop all records, and store a new header."""
        self._file.truncate(0)
        self._end = 0
        self._places.clear()
        self.made_of.clear()
        self.header = {}
        self.note(header)

    def note(self, header: Mapping[str, Any]) -> None:
        """Add to the header, and wait until it is on the disk."""
        self.header = {**self.header, **header}
        self._append(json.dumps({"header": self.header}).encode() + b"\n")
        self.sync()

    def append(self, name: str, datasets: Sequence[Dataset], made_of: str = "") -> None:
        """Append a record. It replaces an earlier record of the same name.

        Args:
            name: of the entry.
            datasets: its arrays.
            made_of: a line that is kept with it (:mod:`disk_hloc.io.store.records`).

        Raises:
            DiskHlocError: the disk is full or cannot be written; all earlier records are kept.
        """
        arrays = [np.asarray(dataset.array) for dataset in datasets]
        description = {
            "name": name,
            "made_of": made_of,
            "datasets": [
                [dataset.path, array.dtype.str, array.shape, dict(dataset.attributes)]
                for dataset, array in zip(datasets, arrays, strict=True)
            ],
        }
        payload = b"".join(
            [json.dumps(description).encode(), b"\n", *(array.tobytes() for array in arrays)]
        )
        self._places[name] = self._append(payload)
        self.made_of[name] = made_of

    def read(self, name: str) -> list[Dataset]:
        """Read the arrays of a record.

        Raises:
            DiskHlocError: the record cannot be read, or is not what was written.
        """
        try:
            payload = self._read(self._places[name])
        except OSError as error:
            raise DiskHlocError(f"{self.path} cannot be read: {error.strerror}") from error
        if payload is None:
            raise DiskHlocError(
                f"{self.path} is damaged: the record of {name} has changed since it was written, "
                "and the disk may be failing; run the same command again to compute it again"
            )
        end = payload.index(b"\n") + 1
        datasets = []
        for path, dtype, shape, attributes in json.loads(payload[:end])["datasets"]:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(payload, np.dtype(dtype), count, end).reshape(shape)
            datasets.append(Dataset(path, array, attributes))
            end += array.nbytes
        return datasets

    def sync(self) -> None:
        """Wait until all records are on the disk, so that they also survive a power failure."""
        if self._unsynced:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._cannot_write(error) from error
            self._unsynced = False

    def close(self) -> None:
        """Close the file, so that other processes can open it."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file."""
        if sys.platform == "win32":  # an open file cannot be deleted there
            self.close()
            self.path.unlink()
        else:
            self.path.unlink()
            self.close()

    def _append(self, payload: bytes) -> int:
        """Write a payload at the end, and return the offset of its record in bytes."""
        start = self._end
        record = memoryview(_FRAME.pack(_MAGIC, len(payload), _checksum(payload)) + payload)
        try:
            self._file.seek(start)
            while record:
                record = record[self._file.write(record) :]
        except OSError as error:
            self._file.truncate(start)
            raise self._cannot_write(error) from error
        self._end = self._file.tell()
        self._unsynced = True
        return start

    def _read(self, start: int) -> bytes | None:
        """Return the payload of a record, or None if its checksum is wrong."""
        self._file.seek(start)
        _, length, checksum = _FRAME.unpack(self._file.read(_FRAME.size))
        payload = self._file.read(length)
        return payload if _checksum(payload) == checksum else None

    def _scan(self) -> None:
        """Find the records, and cut off an incomplete one at the end."""
        size = self._file.seek(0, os.SEEK_END)
        progress = tqdm(
            total=size, desc=f"Check {self.path.name}", unit="B", unit_scale=True, delay=2
        )
        offset = 0
        with progress:
            while offset + _FRAME.size <= size:
                self._file.seek(offset)
                magic, length, _ = _FRAME.unpack(self._file.read(_FRAME.size))
                following = offset + _FRAME.size + length
                if magic != _MAGIC or following > size:
                    break
                payload = self._read(offset)
                if payload is not None:
                    self._take(payload, offset)
                    self._end = following
                progress.update(following - offset)
                offset = following
        self._file.seek(0)
        start_of_file = self._file.read(len(_MAGIC))
        # A power failure may leave zeros behind.
        if not self._end and start_of_file.strip(b"\0") not in (b"", _MAGIC[: len(start_of_file)]):
            raise DiskHlocError(
                f"{self.path} is not a journal of unfinished work: remove it or use another file"
            )
        self.dropped = size - self._end
        if self.dropped:
            self._file.truncate(self._end)
            logger.info("%s: dropped an incomplete record of %d bytes", self.path, self.dropped)

    def _take(self, payload: bytes, place: int) -> None:
        description = json.loads(payload[: payload.index(b"\n")])
        if "header" in description:
            self.header = description["header"]
        else:
            self._places[description["name"]] = place
            self.made_of[description["name"]] = description.get("made_of", "")

    def _cannot_write(self, error: OSError) -> DiskHlocError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskHlocError(
                f"the disk of {self.path.parent} is full: all finished work is kept in "
                f"{self.path.name}; free some space and run the same command again"
            )
        return DiskHlocError(
            f"{self.path} cannot be written ({error.strerror}): all finished work is kept; run "
            "the same command again once the disk works"
        )


def _checksum(payload: bytes) -> int:
    """Return the CRC-32 of the length and the payload.

    Without the length, a frame of zeros would have a valid checksum.
    """
    return zlib.crc32(payload, zlib.crc32(struct.pack("<Q", len(payload))))
