"""Write files that are either complete or unchanged, even if writing is interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces ``path`` if no error is raised.

    Args:
        path: the file; its folder is created.
        partial: the temporary path, if only one process can write it; by default its name contains
            the process id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        # Without this a power failure could leave the new name, but not the content.
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, which is either complete or unchanged."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
