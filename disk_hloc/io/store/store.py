"""Read hloc's HDF5 files, and write them so that no finished entry is ever lost.

HDF5 changes its own structures in place, so a process that is killed while writing leaves a file
that does not open. Entries are therefore first appended to a journal next to the file
(:mod:`disk_hloc.io.store.journal`). At the end the file is written from the journal under a
temporary name, and renamed once it is complete. docs/stores.md explains more.

A file stores the conf that made it in an attribute that hloc ignores, so that a resumed run never
mixes two confs. Each entry stores what it was made of (:mod:`disk_hloc.io.store.fingerprints`), so
that a run computes again what has changed. A file that this module wrote is the same to the bit
however many runs made it: it is written from the first entry to the last, in the order of names.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.differences import differences
from disk_hloc.io.replace import replaced
from disk_hloc.log import logger

from . import fingerprints
from .fingerprints import Fingerprint
from .hdf5 import entries_with, names_with, text_attribute
from .journal import Dataset, Journal

CONF_ATTRIBUTE = "disk_hloc_conf"
# Of a conf that says all that entries depend on; earlier versions noted less.
FORMAT_KEY = "format"
FORMAT = 2
# A power failure loses the entries of at most this time.
SYNC_SECONDS = 2.0
# This many entries may wait to be written.
QUEUE_SIZE = 16
# Space for HDF5's own structures besides the data, per file and per entry.
_MARGIN_BYTES = 1 << 20
_ENTRY_BYTES = 2048
_MAX_OPEN_PARTS = 64

_WITH_GROUPS = h5p.create(h5p.LINK_CREATE)
_WITH_GROUPS.set_create_intermediate_group(True)
_WITH_GROUPS.set_char_encoding(h5t.CSET_UTF8)
_UNTIMED = h5p.create(h5p.DATASET_CREATE)
_UNTIMED.set_obj_track_times(False)


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        DiskHlocError: the file does not exist, is unfinished, or is not a whole HDF5 file.
    """
    if not path.is_file():
        journal = journal_path(path)
        unfinished = f", only {journal.name} of an unfinished run: run the same command again"
        raise DiskHlocError(f"there is no file {path}{unfinished if journal.exists() else ''}")
    try:
        file = h5py.File(path, "r", libver="latest")
    except OSError as error:
        raise DiskHlocError(_not_hdf5(path, error)) from error
    with file:
        yield file


@contextmanager
def replacing(path: Path, num_bytes: int, libver: str = "latest") -> Iterator[h5py.File]:
    """Write a new file of about ``num_bytes`` bytes, which replaces ``path`` once it is complete.

    Raises:
        DiskHlocError: the disk is full.
    """
    with replaced(path) as partial:
        require_space(path, num_bytes)
        with h5py.File(partial, "w", libver=libver) as file:
            yield file


def require_space(path: Path, num_bytes: int) -> None:
    """Check that ``num_bytes`` more bytes fit on the disk of ``path``.

    HDF5 can lose a whole file when the disk fills up, so the free space is checked before writing.

    Raises:
        DiskHlocError: the free space is too small.
    """
    needed = num_bytes + _MARGIN_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DiskHlocError(
            f"the disk of {path.parent} is full: {path.name} needs {needed / 2**20:.1f} MB, and "
            f"{free / 2**20:.1f} MB are free; all finished work is kept: free some space and run "
            "the same command again"
        )


def journal_path(path: Path) -> Path:
    """Return the path of the journal, which holds a file's entries until the file is written."""
    return path.with_name(f"{path.name}.journal")


def conf_text(conf: Mapping[str, Any]) -> str:
    """Return a conf as a file stores it: equal confs give the same string."""
    return json.dumps(conf, sort_keys=True, default=str)


_Item = tuple[str, Sequence[Dataset], str]
# The arrays of an entry, and the text of its fingerprint.
Content = tuple[list[Dataset], str]


class Store:
    """An HDF5 file that is being written; :func:`writing` creates it.

    Attributes:
        path: the file.
        base: the existing file that entries are added to; None if the file is new.
        names: the entries that an earlier run wrote and that are not in ``base`` yet.
        dropped: the entries that will not be in the file.
    """

    def __init__(self, path: Path, base: Path | None, journal: Journal) -> None:
        self.path = path
        self.base = base
        self.names = set(journal.names)
        self.dropped: set[str] = set()
        self._journal = journal
        self._queue: queue.Queue[_Item | None] = queue.Queue(QUEUE_SIZE)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"write {path}", daemon=True)
        self._thread.start()

    def add(self, name: str, datasets: Sequence[Dataset], inputs: str = "") -> None:
        """Add an entry. A thread writes it while the caller continues.

        Args:
            name: name of the entry, which replaces an earlier one of the same name.
            datasets: its arrays, which must not be changed any more; if empty, an empty group is
                written.
            inputs: digests of what it was made of (:class:`.fingerprints.Fingerprint`). Without
                any, the entry has no fingerprint.

        Raises:
            DiskHlocError: this or an earlier entry cannot be written; those before are kept.
        """
        if self._error is not None:
            raise self._error
        self.dropped.discard(name)
        self._queue.put((name, datasets, inputs))

    def drop(self, names: Iterable[str]) -> None:
        """Leave entries out of the file."""
        self.dropped.update(names)

    def entries(self, key: str, *others: str) -> dict[str, Fingerprint | None]:
        """Return the finished entries with their fingerprints, None for one that has none.

        Args:
            key, others: arrays that a whole entry has (:func:`disk_hloc.io.store.hdf5.names_with`).

        Raises:
            DiskHlocError: ``base`` is broken.
        """
        found: dict[str, Fingerprint | None] = {}
        if self.base is not None:
            with reading(self.base) as file:
                found.update(entries_with(file, key, *others))
        for name in self.names:
            found[name] = fingerprints.parse(self._journal.made_of[name])
        return found

    def fingerprints_of(self, names: Iterable[str]) -> dict[str, Fingerprint | None]:
        """Return the fingerprints of those of some entries that are finished."""
        names = list(names)
        found: dict[str, Fingerprint | None] = {}
        if self.base is not None:
            with reading(self.base) as file:
                found = {name: fingerprints.read_of(file, name) for name in names if name in file}
        for name in self.names.intersection(names):
            found[name] = fingerprints.parse(self._journal.made_of[name])
        return found

    def finish(self) -> None:
        """Wait until all entries are on the disk.

        Raises:
            DiskHlocError: an entry cannot be written; those before are kept.
        """
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        last_sync = time.monotonic()
        while True:
            try:
                item = self._queue.get(timeout=SYNC_SECONDS)
                idle = False
            except queue.Empty:
                item, idle = None, True
            # After an error the queue is still emptied, so that no caller waits for space in it.
            if self._error is None:
                try:
                    if item is not None:
                        name, datasets, inputs = item
                        made_of = f"{fingerprints.content_of(name, datasets)} {inputs}"
                        self._journal.append(name, datasets, made_of if inputs else "")
                    if item is None or time.monotonic() - last_sync > SYNC_SECONDS:
                        self._journal.sync()
                        last_sync = time.monotonic()
                except Exception as error:  # noqa: BLE001 - raised where entries are added
                    self._error = error
            if item is None and not idle:
                return


@contextmanager
def writing(
    path: Path, conf: Mapping[str, Any], *, overwrite: bool = False, libver: str = "latest"
) -> Iterator[Store]:
    """Write a file, or add to it. It is complete once the context exits without an error.

    Until then the file stays as it was before. After an error, Ctrl-C or a kill, the entries that
    were written are kept in the journal, and the next ``writing`` of the same file resumes.

    Args:
        path: the file; its folder is created.
        conf: the configuration that the entries depend on.
        overwrite: start over, and ignore the existing file and unfinished work.
        libver: h5py's option; ``earliest`` writes a file that any HDF5 library reads.

    Raises:
        Busy: another process is writing the file.
        DiskHlocError: the file or its journal hold entries made with another conf; the disk is
            full or fails; or the file is not an HDF5 file.
    """
    mine = conf_text(conf)
    with _locked_journal(path) as journal:
        base = _begin(journal, path, mine, overwrite)
        store = Store(path, base, journal)
        try:
            yield store
        finally:
            store.finish()
        added = set(journal.names) - store.dropped
        if added or store.dropped or base is None:
            _make(path, base, mine, libver, added, store.dropped, _from_journal(journal), journal)


def join(
    path: Path,
    parts: Sequence[Path],
    key: str,
    *,
    leave_out: Collection[str] = (),
    drop: Iterable[str] = (),
    overwrite: bool = False,
) -> Path:
    """Join several files into one new or existing file, bit-identical to that of a single run.

    Args:
        path: the file to write.
        parts: at least one file, all made with the same conf.
        key: a dataset that each entry has (:func:`disk_hloc.io.store.hdf5.names_with`).
        leave_out: entries of the parts that do not go into the file.
        drop: entries of the existing file that leave it.
        overwrite: replace the existing file.

    Returns:
        ``path``.

    Raises:
        Busy: another process is writing the file.
        DiskHlocError: the parts were made with different confs; see also :func:`writing`.
    """
    part_of: dict[str, Path] = {}
    confs = set()
    for part in parts:
        with reading(part) as file:
            confs.add(text_attribute(file, CONF_ATTRIBUTE))
            names = (name for name in names_with(file, key) if name not in leave_out)
            part_of.update(dict.fromkeys(names, part))
    conf = confs.pop() if len(confs) == 1 else None
    if conf is None:
        raise DiskHlocError(f"the parts of {path} were not all made with the same conf: {confs}")
    opened = lru_cache(maxsize=_MAX_OPEN_PARTS)(lambda part: h5py.File(part, "r", libver="latest"))
    dropped = set(drop) - set(part_of)
    with _locked_journal(path) as journal:
        base = _begin(journal, path, conf, overwrite)
        from_journal = _from_journal(journal)

        def read(name: str) -> Content:
            return _stored(opened(part_of[name]), name) if name in part_of else from_journal(name)

        added = part_of.keys() | (set(journal.names) - dropped)
        num_bytes = sum(_size(part) for part in parts)
        _make(path, base, conf, "latest", added, dropped, read, journal, num_bytes)
    return path


@contextmanager
def _locked_journal(path: Path) -> Iterator[Journal]:
    """Open the journal of a file, locked against other processes, and remove it on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal_path(path))
    try:
        yield journal
    except BaseException:
        if journal.names:
            journal.close()
        else:
            journal.remove()
        raise
    journal.remove()


def _begin(journal: Journal, path: Path, conf: str, overwrite: bool) -> Path | None:
    """Check that the file and the journal were made with the conf; return the file to add to."""
    unfinished = len(journal.names)
    # If a run was killed after renaming the file, but before removing the journal, then the file
    # has all of the journal's entries.
    merged = path.exists() and journal.header.get("made") == _identity(path)
    if overwrite or not unfinished or merged:
        journal.restart({"conf": conf, "from_scratch": overwrite})
    elif journal.header.get("conf") != conf:
        raise DiskHlocError(
            f"{journal.path} holds the unfinished work of another conf "
            f"({_difference(journal.header.get('conf'), conf)}): use --overwrite or another file"
        )
    else:
        logger.info("resuming with %d entries of an unfinished run in %s", unfinished, journal.path)
    if journal.header.get("from_scratch", False) or not path.exists():
        return None
    with reading(path) as file:
        theirs = text_attribute(file, CONF_ATTRIBUTE)
        if theirs is None and len(file):
            logger.warning(
                "%s does not say with which conf it was made (another program wrote it, or changed "
                "it): what it has is used as it is",
                path,
            )
    if theirs is not None:
        _require_same(path, theirs, conf, "use --overwrite or another file")
    return path


def require_conf(path: Path, conf: Mapping[str, Any], advice: str) -> None:
    """Check that a file was made with a conf; of one that does not say, nothing is known.

    Raises:
        DiskHlocError: it was made with another one, or cannot be read.
    """
    with reading(path) as file:
        theirs = text_attribute(file, CONF_ATTRIBUTE)
    if theirs is not None:
        _require_same(path, theirs, conf_text(conf), advice)


def _require_same(path: Path, theirs: str, mine: str, advice: str) -> None:
    if difference := _difference(theirs, mine):
        raise DiskHlocError(f"{path} was made with another conf ({difference}): {advice}")


def _difference(theirs: str | None, mine: str) -> str:
    """Return where two confs differ, an empty string if they agree."""
    try:
        former, now = json.loads(theirs or "null"), json.loads(mine)
    except ValueError:
        return f"{theirs}, now {mine}"
    if isinstance(former, dict) and FORMAT_KEY not in former and FORMAT_KEY in now:
        now = _as_noted_by_earlier_versions(former, now)
    return "; ".join(differences(former, now))


def _as_noted_by_earlier_versions(former: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return a conf reduced to what earlier versions noted of it.

    They noted the keys that a user gave, without defaults, the name of weights instead of their
    digest, and where masks came from.
    """
    reduced: dict[str, Any] = {k: former[k] for k in ("masks", "model_path") if k in former}
    for key, value in former.items():
        mine = now.get(key)
        if isinstance(value, dict) and isinstance(mine, dict) and key != "masks":
            reduced[key] = {k: mine.get(k) if k != "weights" else value[k] for k in value}
        elif key in now:
            reduced[key] = mine
    return reduced


def _make(
    path: Path,
    base: Path | None,
    conf: str,
    libver: str,
    added: Collection[str],
    dropped: Collection[str],
    read: Callable[[str], Content],
    journal: Journal,
    num_bytes: int = 0,
) -> None:
    """Write the file from ``base``, if given, less ``dropped``, and from the entries ``added``."""
    # Always under the same name, so that the next run replaces what a killed one left behind.
    with replaced(path, path.with_name(f".{path.name}.partial")) as partial, ExitStack() as stack:
        num_bytes += journal.num_bytes + _size(base) + _ENTRY_BYTES * len(added)
        require_space(path, num_bytes)
        try:
            kept = None if base is None else _entries_of_ours(base)
            if base is not None and kept is None:
                # Of another program: whatever else is in it stays.
                shutil.copyfile(base, partial)
                names = sorted(added)
                mode = "a"
            else:
                names = sorted((set(kept or ()) - set(dropped)) | set(added))
                mode = "w"
            former = stack.enter_context(reading(base)) if base is not None and kept else None
            file = stack.enter_context(h5py.File(partial, mode, libver=libver))
            if len(file) == 0:
                file.attrs[CONF_ATTRIBUTE] = conf
            for name in dropped if mode == "a" else ():
                _remove(file, name)
            for name in tqdm(names, desc=f"Write {path.name}", unit="entry", delay=2):
                if name in added or former is None:
                    datasets, made_of = read(name)
                else:
                    datasets, made_of = _stored(former, name)
                if mode == "a" and datasets and name in file:
                    del file[name]
                put(file, name, datasets, made_of)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DiskHlocError(
                f"{path} cannot be written ({reason}): all finished work is kept in "
                f"{journal.path.name}; fix this and run the same command again"
            ) from error
        stack.close()
        journal.note({"made": _identity(partial)})


def _from_journal(journal: Journal) -> Callable[[str], Content]:
    return lambda name: (journal.read(name), journal.made_of[name])


def _entries_of_ours(path: Path) -> list[str] | None:
    """Return the entries of a file in which each has a fingerprint; None for any other file."""
    with reading(path) as file:
        if text_attribute(file, CONF_ATTRIBUTE) is None or set(file.attrs) != {CONF_ATTRIBUTE}:
            return None
        return fingerprints.names_of(file)


def _stored(file: h5py.File, name: str) -> Content:
    """Return an entry of a file that this module wrote."""
    item = file[name]
    made_of = fingerprints.read(item.id) or ""
    if isinstance(item, h5py.Dataset):
        return [Dataset(name, item[()], _other_attributes(item))], made_of
    return [
        Dataset(f"{name}/{key}", dataset[()], _other_attributes(dataset))
        for key, dataset in item.items()
    ], made_of


def _other_attributes(item: h5py.Dataset) -> dict[str, Any]:
    ours = fingerprints.ATTRIBUTE.decode()
    return {key: value for key, value in item.attrs.items() if key != ours}


def _remove(file: h5py.File, name: str) -> None:
    """Remove an entry, and the folders in its name that are empty then."""
    while name:
        if name in file:
            del file[name]
        name = name.rpartition("/")[0]
        if name and len(file[name]):
            return


def put(file: h5py.File, name: str, datasets: Sequence[Dataset], made_of: str = "") -> None:
    """Write a new entry to an open file, with the text of its fingerprint if it has one."""
    if not datasets:
        file.require_group(name)
    # Sorted by name, as HDF5 lists them, so that a joined file is the same as one of a single run.
    # h5py's create_dataset, which creates each group on the path by itself, is three times slower.
    for dataset in sorted(datasets, key=lambda dataset: dataset.path):
        array = np.asarray(dataset.array, order="C")
        space = h5s.create_simple(array.shape) if array.shape else h5s.create(h5s.SCALAR)
        dtype = h5t.py_create(array.dtype, logical=True)
        stored = h5d.create(file.id, dataset.path.encode(), dtype, space, _UNTIMED, _WITH_GROUPS)
        stored.write(h5s.ALL, h5s.ALL, array)
        for key, value in dataset.attributes.items():
            h5py.Dataset(stored).attrs[key] = value
    fingerprints.write(file, name, made_of)


def _identity(path: Path) -> list[int]:
    """Return values that do not change when a file is renamed, and differ between files."""
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _size(path: Path | None) -> int:
    return 0 if path is None else path.stat().st_size


def _not_hdf5(path: Path, error: OSError) -> str:
    reason = " ".join(str(error).split())
    if "unable to lock file" in reason:
        return f"{path} is open for writing in another program: close it there"
    if "already open for write" in reason:
        return (
            f"{path} is open for writing in another program, or one was stopped before it closed "
            f"the file: close it there, or clear the file's mark with `h5clear -s {path}` (of the "
            "HDF5 tools) if none is running"
        )
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: permission denied"
    if "file signature not found" in reason:
        return f"{path} is not an HDF5 file: use another file"
    if "truncated file" in reason:
        return f"{path} is not a whole HDF5 file, its end is missing: copy it or make it again"
    return f"{path} cannot be opened as an HDF5 file ({reason}): make it again or use another file"
