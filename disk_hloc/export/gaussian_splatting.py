"""The folder that 3D Gaussian splatting trains on: the layout of its authors' convert.py."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import undistorted
from .source import Source


def write(source: Source, folder: Path) -> None:
    """Write ``images/`` without distortion, ``sparse/0/`` and, if there are masks, ``masks/``.

    Raises:
        DiskHlocError: see :func:`disk_hloc.export.undistorted.write`.
    """
    undistorted.write(source, folder)
    shutil.rmtree(folder / "stereo")
    for script in folder.glob("run-colmap-*.sh"):
        script.unlink()
    (folder / "sparse").rename(folder / "0")
    (folder / "sparse").mkdir()
    (folder / "0").rename(folder / "sparse" / "0")
