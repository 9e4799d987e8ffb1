"""HDF5 files that are added to: opening them, and never filling the disk.

A file remembers the conf that made it, in an attribute that hloc does not look at, so that a run
that resumes never mixes two confs.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ..errors import DiskHlocError
from .replace import replaced

CONF_ATTRIBUTE = "disk_hloc_conf"
# Room for HDF5's own structures beside the data of one entry.
_MARGIN_BYTES = 1 << 20


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file to read.

    Raises:
        DiskHlocError: there is no such file, or it is no whole HDF5 file.
    """
    if not path.is_file():
        raise DiskHlocError(f"there is no file {path}")
    try:
        file = h5py.File(path, "r", libver="latest")
    except OSError as error:
        raise DiskHlocError(_not_hdf5(path, error)) from error
    with file:
        yield file


@contextmanager
def appending(path: Path, num_bytes: int, libver: str = "latest") -> Iterator[h5py.File]:
    """Open a file to add about ``num_bytes`` to it, creating it if need be.

    ``libver`` is h5py's: ``earliest`` makes files that any HDF5 library reads.

    Raises:
        DiskHlocError: the disk is full, which is found out before the file is touched; or the
            file is no whole HDF5 file or cannot be written.
    """
    require_space(path, num_bytes)
    try:
        file = h5py.File(path, "a", libver=libver)
    except OSError as error:
        raise DiskHlocError(_not_hdf5(path, error)) from error
    with file:
        yield file


def require_space(path: Path, num_bytes: int) -> None:
    """Check that ``num_bytes`` more fit on the disk of ``path``.

    HDF5 can lose a whole file when the disk fills up under it, so this is asked first.

    Raises:
        DiskHlocError: they do not.
    """
    folder = path.parent
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < num_bytes + _MARGIN_BYTES:
        raise DiskHlocError(
            f"the disk of {folder} is full ({free / 2**20:.1f} MB left): {path.name} is whole and "
            "keeps all that was written so far; make room and run the same command again"
        )


def names_with(group: h5py.Group, key: str, prefix: str = "") -> Iterator[str]:
    """The names of the images, which may have folders, whose group has a dataset ``key``."""
    for name, item in group.items():
        if not isinstance(item, h5py.Group):
            continue
        # A folder of images may be called as the dataset is.
        if isinstance(item.get(key), h5py.Dataset):
            yield prefix + name
        else:
            yield from names_with(item, key, f"{prefix}{name}/")


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


@contextmanager
def writing_behind(waiting: int = 16) -> Iterator[Callable[..., None]]:
    """Write in a thread while the caller computes: ``write(function, *arguments)``.

    Writes happen one after the other. All that were handed over are done when the context ends,
    be it by an error or Ctrl-C; at most ``waiting`` of them wait. What a write raises is raised by
    a later one or by the context's end.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: deque[Future[None]] = deque()

        def write(function: Callable[..., None], *arguments: Any) -> None:
            pending.append(pool.submit(function, *arguments))
            while pending and (pending[0].done() or len(pending) > waiting):
                pending.popleft().result()

        yield write
        for future in pending:
            future.result()


def claim(path: Path, conf: Mapping[str, Any], overwrite: bool, libver: str = "latest") -> None:
    """Make sure that ``path`` can take entries made with ``conf``, and note the conf in it.

    Args:
        path: the file; its folder is created.
        conf: what the entries depend on.
        overwrite: remove what is there.
        libver: see :func:`appending`.

    Raises:
        DiskHlocError: the file holds entries made with another conf.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if overwrite:
        path.unlink(missing_ok=True)
    mine = json.dumps(conf, sort_keys=True, default=str)
    with appending(path, 0, libver) as file:
        theirs = file.attrs.get(CONF_ATTRIBUTE)
        if theirs is None and len(file) == 0:
            file.attrs[CONF_ATTRIBUTE] = mine
        elif theirs is not None and theirs != mine:
            raise DiskHlocError(
                f"{path} was made with another conf ({theirs}): use --overwrite or another file"
            )


def _not_hdf5(path: Path, error: OSError) -> str:
    reason = " ".join(str(error).split())
    return f"{path} cannot be opened as an HDF5 file ({reason}): remove it, or give another file"
