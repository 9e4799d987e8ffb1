"""hloc's HDF5 files: reading them, and making them so that nothing is ever lost.

HDF5 changes its own structures in place, and a process that is killed meanwhile leaves a file that
does not open. So entries go into a journal beside the file (:mod:`disk_hloc.io.store.journal`) as
they are computed, and the file is made of it at the end, under another name until it is whole.
docs/stores.md tells more.

A file remembers the conf that made it, in an attribute that hloc does not look at, so that a run
that resumes never mixes two confs.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.replace import replaced
from disk_hloc.log import logger

from .hdf5 import names_with, text_attribute
from .journal import Dataset, Journal

CONF_ATTRIBUTE = "disk_hloc_conf"
# What a power failure may take of what is written.
SYNC_SECONDS = 2.0
# So many entries may wait for the disk.
WAITING = 16
# Room for HDF5's own structures beside the data, of a file and of an entry.
_MARGIN_BYTES = 1 << 20
_ENTRY_BYTES = 2048
_PARTS_AT_ONCE = 64

_WITH_GROUPS = h5p.create(h5p.LINK_CREATE)
_WITH_GROUPS.set_create_intermediate_group(True)
_WITH_GROUPS.set_char_encoding(h5t.CSET_UTF8)
_UNTIMED = h5p.create(h5p.DATASET_CREATE)
_UNTIMED.set_obj_track_times(False)


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file to read.

    Raises:
        DiskHlocError: there is no such file, it is unfinished, or it is no whole HDF5 file.
    """
    if not path.is_file():
        journal = journal_path(path)
        unfinished = f", only {journal.name} of a run that did not end: run it again"
        raise DiskHlocError(f"there is no file {path}{unfinished if journal.exists() else ''}")
    try:
        file = h5py.File(path, "r", libver="latest")
    except OSError as error:
        raise DiskHlocError(_not_hdf5(path, error)) from error
    with file:
        yield file


@contextmanager
def replacing(path: Path, num_bytes: int, libver: str = "latest") -> Iterator[h5py.File]:
    """A new file of about ``num_bytes``, which takes its name once it is complete.

    Raises:
        DiskHlocError: the disk is full.
    """
    with replaced(path) as partial:
        require_space(path, num_bytes)
        with h5py.File(partial, "w", libver=libver) as file:
            yield file


def require_space(path: Path, num_bytes: int) -> None:
    """Check that ``num_bytes`` more fit on the disk of ``path``.

    HDF5 can lose a whole file when the disk fills up under it, so this is asked first.

    Raises:
        DiskHlocError: they do not.
    """
    needed = num_bytes + _MARGIN_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DiskHlocError(
            f"the disk of {path.parent} is full: {path.name} needs {needed / 2**20:.1f} MB, and "
            f"{free / 2**20:.1f} MB are left; make room and run the same command again, all that "
            "is done is kept"
        )


def journal_path(path: Path) -> Path:
    """Where the entries of a file are until it is made of them."""
    return path.with_name(f"{path.name}.journal")


def conf_text(conf: Mapping[str, Any]) -> str:
    """A conf as a file remembers it: one text for equal confs."""
    return json.dumps(conf, sort_keys=True, default=str)


class Store:
    """An HDF5 file in the making. :func:`writing` makes it.

    Attributes:
        path: the file.
        base: the same, where it is there and is added to; else None.
        names: the entries that an earlier run wrote and that are not in ``base`` yet.
    """

    def __init__(self, path: Path, base: Path | None, journal: Journal) -> None:
        self.path = path
        self.base = base
        self.names = set(journal.names)
        self._journal = journal
        self._queue: queue.Queue[tuple[str, Sequence[Dataset]] | None] = queue.Queue(WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"write {path}", daemon=True)
        self._thread.start()

    def add(self, name: str, datasets: Sequence[Dataset]) -> None:
        """Add an entry. It is written while the caller goes on.

        Args:
            name: of the entry, which takes the place of one of that name.
            datasets: its arrays, which must not change any more; without any, an empty group.

        Raises:
            DiskHlocError: this or an earlier entry cannot be written; those before are kept.
        """
        if self._error is not None:
            raise self._error
        self._queue.put((name, datasets))

    def done(self, key: str, *others: str) -> set[str]:
        """The entries that need not be made: of ``names``, and those of ``base`` that are whole.

        Args:
            key, others: arrays that a whole entry has (:func:`disk_hloc.io.store.hdf5.names_with`).

        Raises:
            DiskHlocError: ``base`` is broken.
        """
        if self.base is None:
            return set(self.names)
        with reading(self.base) as file:
            return self.names.union(names_with(file, key, *others))

    def finish(self) -> None:
        """Wait until the disk has all entries.

        Raises:
            DiskHlocError: one cannot be written; those before are kept.
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
            # After an error entries are still taken, so that nobody waits for room in the queue.
            if self._error is None:
                try:
                    if item is not None:
                        self._journal.append(*item)
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
    """Make a file, or add to it. It is there, whole, once the context has ended without an error.

    Until then it is as it was before. After an error, Ctrl-C or a kill, the entries that were
    written are kept in the journal, and the next ``writing`` of the same file goes on with them.

    Args:
        path: the file; its folder is created.
        conf: what the entries depend on.
        overwrite: make the file anew, whatever is there or was left unfinished.
        libver: h5py's: ``earliest`` makes a file that any HDF5 library reads.

    Raises:
        Busy: another process is writing the file.
        DiskHlocError: the file or its journal hold entries made with another conf; the disk is
            full or fails; or the file is no HDF5 file.
    """
    mine = conf_text(conf)
    with _alone(path) as journal:
        base = _begin(journal, path, mine, overwrite)
        store = Store(path, base, journal)
        try:
            yield store
        finally:
            store.finish()
        names = sorted(journal.names)
        if names or base is None:
            _make(path, base, mine, libver, names, journal.read, journal)


def join(path: Path, parts: Sequence[Path], key: str, *, overwrite: bool = False) -> Path:
    """Make one file of several, or add them to it: the same, to the bit, as if made at once.

    Args:
        path: the file.
        parts: at least one file, all made with one conf.
        key: a dataset that each entry has (:func:`disk_hloc.io.store.hdf5.names_with`).
        overwrite: make the file anew.

    Returns:
        ``path``.

    Raises:
        Busy: another process is writing the file.
        DiskHlocError: the parts were made with several confs; and as :func:`writing`.
    """
    part_of: dict[str, Path] = {}
    confs = set()
    for part in parts:
        with reading(part) as file:
            confs.add(text_attribute(file, CONF_ATTRIBUTE))
            part_of.update((name, part) for name in names_with(file, key))
    conf = confs.pop() if len(confs) == 1 else None
    if conf is None:
        raise DiskHlocError(f"the parts of {path} were not made with one conf: {confs}")
    opened = lru_cache(maxsize=_PARTS_AT_ONCE)(lambda part: h5py.File(part, "r", libver="latest"))

    def read(name: str) -> list[Dataset]:
        return [
            Dataset(f"{name}/{of}", dataset[()], dict(dataset.attrs))
            for of, dataset in opened(part_of[name])[name].items()
        ]

    with _alone(path) as journal:
        base = _begin(journal, path, conf, overwrite)
        for name in journal.names:
            part_of.setdefault(name, journal.path)
        _make(
            path,
            base,
            conf,
            "latest",
            sorted(part_of),
            lambda name: journal.read(name) if part_of[name] == journal.path else read(name),
            journal,
            sum(_size(part) for part in parts),
        )
    return path


@contextmanager
def _alone(path: Path) -> Iterator[Journal]:
    """The journal of a file that nobody else writes; it is gone if this ends well."""
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
    """The file to add to, once it and the journal are known to agree with the conf."""
    unfinished = len(journal.names)
    # All is in the file already if it ended between the two: the file has its name, no journal.
    spent = path.exists() and journal.header.get("made") == _identity(path)
    if overwrite or not unfinished or spent:
        journal.restart({"conf": conf, "anew": overwrite})
    elif journal.header.get("conf") != conf:
        raise DiskHlocError(
            f"{journal.path} holds the unfinished work of another conf "
            f"({journal.header.get('conf')}): use --overwrite or another file"
        )
    else:
        logger.info("%d entries of a run that did not end are in %s", unfinished, journal.path)
    if journal.header["anew"] or not path.exists():
        return None
    with reading(path) as file:
        theirs = text_attribute(file, CONF_ATTRIBUTE)
    if theirs is not None and theirs != conf:
        raise DiskHlocError(
            f"{path} was made with another conf ({theirs}): use --overwrite or another file"
        )
    return path


def _make(
    path: Path,
    base: Path | None,
    conf: str,
    libver: str,
    names: Sequence[str],
    read: Callable[[str], list[Dataset]],
    journal: Journal,
    num_bytes: int = 0,
) -> None:
    """Make the file of entries, and of ``base`` where there is one."""
    # Of one name, so that what a kill leaves is replaced by the next run.
    with replaced(path, path.with_name(f".{path.name}.partial")) as partial:
        num_bytes += journal.num_bytes + _size(base) + _ENTRY_BYTES * len(names)
        require_space(path, num_bytes)
        try:
            if base is not None:
                shutil.copyfile(base, partial)
            with h5py.File(partial, "w" if base is None else "a", libver=libver) as file:
                if len(file) == 0:
                    file.attrs[CONF_ATTRIBUTE] = conf
                for name in tqdm(names, desc=f"Write {path.name}", unit="entry", delay=2):
                    datasets = read(name)
                    if base is not None and datasets and name in file:
                        del file[name]
                    put(file, name, datasets)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DiskHlocError(
                f"{path} cannot be written ({reason}): all that is done is kept in "
                f"{journal.path.name}; mend this and run the same command again"
            ) from error
        journal.note({"made": _identity(partial)})


def put(file: h5py.File, name: str, datasets: Sequence[Dataset]) -> None:
    """Write a new entry into an open file."""
    if not datasets:
        file.require_group(name)
    # By name, as HDF5 lists them, so that a file is the same whether it was joined or not. With
    # h5py's create_dataset, which makes each group on the way by itself, it takes thrice the time.
    for dataset in sorted(datasets, key=lambda dataset: dataset.path):
        array = np.asarray(dataset.array, order="C")
        space = h5s.create_simple(array.shape) if array.shape else h5s.create(h5s.SCALAR)
        dtype = h5t.py_create(array.dtype, logical=True)
        stored = h5d.create(file.id, dataset.path.encode(), dtype, space, _UNTIMED, _WITH_GROUPS)
        stored.write(h5s.ALL, h5s.ALL, array)
        for key, value in dataset.attributes.items():
            h5py.Dataset(stored).attrs[key] = value


def _identity(path: Path) -> list[int]:
    """What stays when a file is renamed, and is another's for another file."""
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _size(path: Path | None) -> int:
    return 0 if path is None else path.stat().st_size


def _not_hdf5(path: Path, error: OSError) -> str:
    reason = " ".join(str(error).split())
    return f"{path} cannot be opened as an HDF5 file ({reason}): remove it, or give another file"
