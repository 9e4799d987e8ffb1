"""Files of text that a user gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disk_hloc.errors import DiskHlocError


def read_text(path: Path, what: str) -> str:
    """A whole file of UTF-8.

    Args:
        path: the file.
        what: it is, for the error: ``the pairs``.

    Raises:
        DiskHlocError: the file cannot be read, or is not UTF-8.
    """
    with _clear(path, what):
        return path.read_text(encoding="utf-8")


def read_lines(path: Path, what: str) -> Iterator[str]:
    """The lines of a file of UTF-8, one by one, as :func:`read_text`. Only a line feed ends one.

    ``str.splitlines`` would also end a line where a name has a control character.
    """
    with _clear(path, what), path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


@contextmanager
def _clear(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    # A path with a zero byte is a ValueError, as is what is not UTF-8.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read {what} {path}: {reason}") from error
