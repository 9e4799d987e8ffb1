"""Where results may be written: never onto an input, or onto what is not ours to replace."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from disk_hloc.errors import DiskHlocError

from .names import require_relative
from .replace import replace_text
from .text import read_text

# The files of a folder that :func:`claim_files` took, a line each.
MANIFEST = ".disk_hloc_files"

_HDF5 = b"\x89HDF\r\n\x1a\n"
# What a text file, or a file of another kind, begins with.
_PREFIX_BYTES = 4096


def require_output(path: Path, kind: str, inputs: Mapping[str, Path | None]) -> None:
    """Check that a file may be written, before anything is read.

    Args:
        path: the file to write, or to replace.
        kind: ``hdf5`` or ``text``; an existing file must be of the same kind.
        inputs: what each input is, for the error, and its path; folders too. None is ignored.

    Raises:
        DiskHlocError: ``path`` is a folder, a pipe or a device, is an input under this name or
            another, or holds something else than ``kind``.
    """
    _require_no_input(path, inputs)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.name in ("", ".."):
            raise DiskHlocError(f"the output {path} is not the name of a file") from None
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DiskHlocError(f"cannot write the output {path}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise DiskHlocError(f"the output {path} is a folder: give the name of a file")
    if not stat.S_ISREG(mode):
        raise DiskHlocError(f"the output {path} is not a regular file: give another name")
    found = _kind(path)
    if found not in (kind, None):
        raise DiskHlocError(
            f"the output {path} exists and is not {_KINDS[kind]}: remove it, or give another name"
        )


def require_output_folder(path: Path, inputs: Mapping[str, Path | None]) -> None:
    """Check that a folder may be written to, before anything is read.

    Args:
        path: the folder, which need not exist.
        inputs: as in :func:`require_output`.

    Raises:
        DiskHlocError: ``path`` is not a folder, or is an input under this name or another.
    """
    _require_no_input(path, inputs)
    if os.path.lexists(path) and not path.is_dir():
        raise DiskHlocError(f"the output {path} is not a folder: give another name")


def claim_files(folder: Path, names: Collection[str], whole: str | None = None) -> None:
    """Take the names of files in a folder for files that are then written.

    The names are noted in the folder first, and what an earlier call noted is removed, so that a
    folder may hold other files, too: these are never touched.

    Args:
        folder: is created.
        names: paths below it, with ``/``.
        whole: the name of a file that is written last, since it says that all others are there;
            it is removed first. It is replaced even if no earlier call noted it.

    Raises:
        DiskHlocError: one of the names is that of a file that no earlier call noted.
    """
    manifest = folder / MANIFEST
    former = _noted(folder)
    for name in sorted(set(names) - former):
        if os.path.lexists(folder / name):
            raise DiskHlocError(
                f"{folder / name} exists, and was not written here: remove it, or give another "
                "folder"
            )
    # Until the former files are gone, both are noted: a kill leaves none that nobody knows.
    folder.mkdir(parents=True, exist_ok=True)
    if whole is not None:
        (folder / whole).unlink(missing_ok=True)
    _note(manifest, former | set(names))
    remove_files(folder, former)
    _note(manifest, names)


def note_files(folder: Path) -> None:
    """Note all files of a folder as ours, one that we made alone."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    _note(folder / MANIFEST, set(names) - {MANIFEST})


def require_noted(folder: Path) -> None:
    """Check that all files of a folder were noted as ours.

    Raises:
        DiskHlocError: one was not.
    """
    noted = {*_noted(folder), MANIFEST}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in noted:
            raise DiskHlocError(
                f"{path} was not written here: remove it, or give another folder than {folder}"
            )


def remove_files(folder: Path, names: Collection[str]) -> None:
    """Remove files below a folder, and the folders that are empty then.

    Args:
        folder: where they are.
        names: paths below it, with ``/``; those that do not exist are skipped.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
    above = {parent for name in names for parent in PurePosixPath(name).parents} - {PurePosixPath()}
    for parent in sorted(above, key=lambda path: len(path.parts), reverse=True):
        path = folder / parent
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def _noted(folder: Path) -> set[str]:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return set()
    names = set(read_text(manifest, "the list of files").split("\n")) - {""}
    for name in names:
        require_relative(name, manifest)
    return names


def _note(manifest: Path, names: Collection[str]) -> None:
    replace_text(manifest, "".join(f"{name}\n" for name in sorted(names)))


def _require_no_input(path: Path, inputs: Mapping[str, Path | None]) -> None:
    for what, other in inputs.items():
        if other is not None and _is_same(path, other):
            shown = f"{what} {other}"
            also = "" if str(path) == str(other) else f" (as {path})"
            raise DiskHlocError(
                f"the output would replace its own input, the {shown}{also}: give another name"
            )


def _is_same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return os.path.realpath(path) == os.path.realpath(other)


_KINDS = {"hdf5": "an HDF5 file", "text": "a text file"}


def _kind(path: Path) -> str | None:
    """``hdf5``, ``text`` or ``other``; None for an empty file, which may become anything."""
    try:
        with path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
    except OSError as error:
        raise DiskHlocError(f"cannot read the output {path}: {error.strerror}") from error
    if not prefix:
        return None
    if prefix.startswith(_HDF5):
        return "hdf5"
    # A character of UTF-8 may be cut at the end.
    text = prefix.decode("utf-8", "ignore").encode()
    return "text" if len(prefix) - len(text) < 4 and b"\0" not in prefix else "other"
