"""Read text files that a user gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disk_hloc.errors import DiskHlocError


def read_text(path: Path, what: str) -> str:
    """Read a whole UTF-8 file.

    Args:
        path: the file.
        what: what the file is, for the error message, e.g. ``the pairs``.

    Raises:
        DiskHlocError: the file cannot be read, or is not UTF-8.
    """
    with _clear(path, what):
        return path.read_text(encoding="utf-8")


def read_lines(path: Path, what: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file one at a time; see :func:`read_text`.

    Only a line feed ends a line; ``str.splitlines`` would also split at control characters, which
    may be part of a name.
    """
    with _clear(path, what), path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


@contextmanager
def _clear(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    # A path with a zero byte raises a ValueError, and so does text that is not UTF-8.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read {what} {path}: {reason}") from error
