"""Read text files that a user gives, and names in lists.

All lists are read alike: UTF-8 with or without a byte order mark, lines that end with a line feed
or with a carriage return and a line feed. Blank lines are skipped, and so are comments, the lines
that begin with ``#``.

A name may hold white space where a list separates its columns by tabs. A name that begins with
``#`` or with white space, or ends with white space, is written as another path to the same file:
``./#1.jpg``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from disk_hloc.errors import DiskHlocError


def read_text(path: Path, what: str) -> str:
    """Read a whole UTF-8 file, without its byte order mark.

    Args:
        path: the file.
        what: what the file is, for the error message, e.g. ``the pairs``.

    Raises:
        DiskHlocError: the file cannot be read, or is not UTF-8.
    """
    with _clear(path, what), path.open(encoding="utf-8-sig", newline="\n") as file:
        return file.read()


def read_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines of a list, one at a time; see :func:`read_text`.

    Blank lines and comments are left out, and so is white space at both ends of a line. Only a line
    feed ends a line; ``str.splitlines`` would also split at control characters, which may be part
    of a name.
    """
    with _clear(path, what), path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if text and not text.startswith("#"):
                yield number, text


def columns(line: str) -> list[str]:
    """Split a line of a list at its tabs, or at any white space if it has no tab."""
    if "\t" not in line:
        return line.split()
    return [part.strip() for part in line.split("\t") if part.strip()]


def as_column(name: str) -> str:
    """Return a name as it is written to a list; :func:`separator` says what follows it.

    Raises:
        DiskHlocError: the name has a tab or a line feed.
    """
    require_listable((name,))
    before = "./" if name[:1] in ("#", "\ufeff") or name[:1].isspace() else ""
    after = "/" if name[-1:].isspace() else ""
    return f"{before}{name}{after}"


def separator(*names: str) -> str:
    """Return what separates names in a line: a tab if one of them has white space, or a space."""
    return " " if all(name.split() == [name] for name in names) else "\t"


def require_listable(names: Iterable[str]) -> None:
    """Check that names can be written to a list.

    Raises:
        DiskHlocError: a name is empty, or has a tab or a line feed.
    """
    for name in names:
        if not name or "\t" in name or "\n" in name:
            raise DiskHlocError(
                f"the image name {name!r} has a tab or a line break, which is not possible in a "
                "list of names: rename the image"
            )


@contextmanager
def _clear(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DiskHlocError(
            f"cannot read {what} {path}: it is not UTF-8 ({error.reason} at byte {error.start}); "
            "save it as UTF-8"
        ) from error
    # A path with a zero byte raises a ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read {what} {path}: {reason}") from error
