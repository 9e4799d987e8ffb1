"""DISK local features for hloc and COLMAP.

Importing this package is cheap: torch, kornia and hloc are imported where they are used.
"""

from __future__ import annotations

# pycolmap 4.2's wheel exports a zlib of its own. The system's libz, if loaded after it, mixes the
# two, and writing a PNG (Pillow, OpenCV) then corrupts the heap. Python's zlib loads it before.
import zlib  # noqa: F401
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__version__ = "0.1.0"


def register() -> ModuleType:
    """Add DISK to hloc: the extractor, the matchers and their confs. Returns the hloc package.

    After it ``hloc.extract_features.confs["disk"]``, ``hloc.match_features.confs["disk"]`` and
    the others that configs/ lists run through hloc's own functions. May be called again.

    Raises:
        DiskHlocError: no hloc was found (see :mod:`disk_hloc.plugin`).
    """
    from disk_hloc.plugin import register

    return register()
