"""Locks between processes, by files."""

from __future__ import annotations

import errno
import os
import sys
from io import FileIO
from pathlib import Path

from disk_hloc.errors import Busy
from disk_hloc.log import logger


def open_locked(path: Path, output: Path) -> FileIO:
    """Open a file and lock it against other processes; create it if it does not exist.

    Args:
        path: the file. The lock ends when it is closed, or with the process.
        output: what the lock protects, for the message.

    Raises:
        Busy: another process has the lock.
        OSError: the file cannot be written.
    """
    while True:
        file = FileIO(path, "r+", opener=_open_or_create)
        try:
            _lock(file.fileno(), path, output)
            # The process that held the lock may have removed the file just before we got it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(file: int, path: Path, output: Path) -> None:
    if sys.platform == "win32":  # no flock there, so two processes are not kept apart
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Busy(
            f"another process is writing {output}: wait for it, or use another output"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        logger.warning("the file system of %s has no locks: run one process at a time", path)
