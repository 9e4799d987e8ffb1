"""COLMAP's text files."""

from __future__ import annotations

from pathlib import Path

from .source import Source, require_words


def write(source: Source, folder: Path) -> None:
    """Write ``cameras.txt``, ``images.txt``, ``points3D.txt`` and those of rigs and frames.

    Raises:
        DiskHlocError: a name has white space.
    """
    require_words(source, "colmap-text")
    source.model.write_text(folder)
