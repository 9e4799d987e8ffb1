"""Check that image names read from a file stay inside the folder that the user gives.

A list, a model, a database or a features file may contain names such as ``../../.bashrc`` or
``/etc/passwd``; ``folder / name`` would then be outside the folder. Every parser of names checks
them here. Links inside the folder are the user's own and may point anywhere.
"""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath

from disk_hloc.errors import DiskHlocError

# Names that are sound at a glance: a list of 100,000 is checked in a tenth of the time.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_NUMBER = re.compile(r"([0-9]+)")


def require_relative(name: str, where: object) -> str:
    """Check that a name stays inside any folder that it is joined to.

    Args:
        name: a path read from a file, with ``/``.
        where: the file, and the line if there is one; the error message begins with it.

    Returns:
        The name without ``./`` and double slashes, as in a folder's listing.

    Raises:
        DiskHlocError: the name is empty, absolute, contains ``..``, or is not a valid file name.
    """
    if _PLAIN.fullmatch(name):
        return name
    reason = _why_not(name)
    if reason:
        raise DiskHlocError(
            f"{where}: {name!r} {reason}; names must be relative to the folder of the images and "
            "stay inside it"
        )
    return PurePosixPath(name).as_posix()


def is_relative(name: str) -> bool:
    """Check whether :func:`require_relative` accepts a name."""
    return _why_not(name) is None


def _why_not(name: str) -> str | None:
    # By the rules of this machine: on Windows, a drive letter also leaves the folder.
    path = PurePath(name)
    if not path.parts:
        return "is not a name"
    if "\0" in name:
        return "has a zero byte"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if path.anchor:
        return "is an absolute path"
    if ".." in path.parts:
        return "leaves its folder through '..'"
    return None


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts names as people count: frame2 before frame10."""
    # Texts and numbers alternate, so that those of two names can be compared.
    parts = _NUMBER.split(name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
