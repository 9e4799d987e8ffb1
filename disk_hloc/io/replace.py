"""Files that are whole or unchanged, however their writing ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its name once that has ended well.

    Args:
        path: the file; its folder is created.
        partial: the other path, for who is alone in writing it; else one of this process's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        # The other way around a power failure could leave the name without the content.
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file, which is whole or unchanged."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
