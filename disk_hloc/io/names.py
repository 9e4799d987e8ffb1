"""Names of images that a file's content gives: they stay inside the folders that the user gives.

A list, a model, a database or a features file may name ``../../.bashrc`` or ``/etc/passwd``; what
is read from ``folder / name``, or written to it, would then lie elsewhere. Every parser of names
checks them here. A link inside the folder may lead where the user had it lead.
"""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath

from disk_hloc.errors import DiskHlocError


def require_relative(name: str, where: object) -> str:
    """Check that a name stays inside any folder that it is joined to.

    Args:
        name: a path as a file's content gives it, with ``/``.
        where: the file, and the line if it has one: the error begins with it.

    Returns:
        The name without ``./`` and doubled slashes, as a folder's listing has it.

    Raises:
        DiskHlocError: the name is empty, absolute, has ``..``, or cannot be that of a file.
    """
    reason = _why_not(name)
    if reason:
        raise DiskHlocError(
            f"{where}: {name!r} {reason}; names are relative to the folder of the images and stay "
            "inside it"
        )
    return PurePosixPath(name).as_posix()


def is_relative(name: str) -> bool:
    """Whether :func:`require_relative` lets a name pass."""
    return _why_not(name) is None


def _why_not(name: str) -> str | None:
    # By the rules of the machine that joins it: on Windows a drive leads away, too.
    path = PurePath(name)
    if not path.parts:
        return "is no name"
    if "\0" in name:
        return "has a zero byte"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if path.anchor:
        return "is an absolute path"
    if ".." in path.parts:
        return "leads out of its folder by '..'"
    return None
