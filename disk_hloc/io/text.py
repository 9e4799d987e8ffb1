"""Files of text that a user gives."""

from __future__ import annotations

from pathlib import Path

from ..errors import DiskHlocError


def read_text(path: Path, what: str) -> str:
    """A whole file of UTF-8.

    Args:
        path: the file.
        what: it is, for the error: ``the pairs``.

    Raises:
        DiskHlocError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    # A path with a zero byte is a ValueError, as is what is not UTF-8.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read {what} {path}: {reason}") from error


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a file of UTF-8, as :func:`read_text`. Only a line feed ends one.

    ``str.splitlines`` would also end a line where a name has a control character.
    """
    lines = read_text(path, what).split("\n")
    return lines[:-1] if lines[-1] == "" else lines
