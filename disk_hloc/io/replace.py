"""Write files that are either complete or unchanged, even if writing is interrupted."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def replace_json(path: Path, content: Any) -> None:
    """Write a JSON file, which is either complete or unchanged.

    Numbers that are not finite become null: JSON has none.
    """
    replace_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    """Return JSON's content with null for numbers that are not finite."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return content


def sync_all(folder: Path) -> None:
    """Wait until all that is in a folder is on the disk."""
    for path in sorted(folder.rglob("*")):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
