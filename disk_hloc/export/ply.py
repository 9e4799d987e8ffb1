"""The points as PLY, for any viewer."""

from __future__ import annotations

from pathlib import Path

from .source import Source


def write(source: Source, folder: Path) -> None:
    """Write ``points.ply``: positions in units of the model, and colours."""
    source.model.export_PLY(folder / "points.ply")
