"""DISK local features for hloc and COLMAP.

Importing this package is cheap: torch, kornia and hloc are imported where they are used.
"""

from __future__ import annotations

import sys

# pycolmap 4.2's wheel exports its own zlib. If the system's libz is loaded after it, the two get
# mixed up, and writing a PNG (Pillow, OpenCV) corrupts the heap. Python's zlib loads libz first.
_IMPORTED = [*sys.builtin_module_names, *sys.modules]
_LATE = (
    "pycolmap._core" in _IMPORTED and "zlib" not in _IMPORTED[: _IMPORTED.index("pycolmap._core")]
)
import zlib  # noqa: E402, F401
from typing import TYPE_CHECKING  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import pycolmap
    from plotly.graph_objects import Figure

    from disk_hloc.localizer import Localizer

__all__ = ["Localizer", "__version__", "register", "view"]

__version__ = "0.1.0"

if _LATE and sys.platform == "linux" and not sys.modules["pycolmap"].__version__.startswith("3."):
    raise ImportError(
        "pycolmap was imported first, after which this process can no longer write PNG files: "
        "import disk_hloc (or zlib) before pycolmap"
    )


def __getattr__(name: str) -> type[Localizer]:
    if name != "Localizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from disk_hloc.localizer import Localizer

    return Localizer


def register() -> ModuleType:
    """Add DISK to hloc: the extractor, the matchers and their confs.

    Afterwards ``hloc.extract_features.confs["disk"]``, ``hloc.match_features.confs["disk"]`` and
    the other confs listed in configs/ run through hloc's own functions. Repeated calls do no harm.

    Returns:
        The hloc package.

    Raises:
        DiskHlocError: hloc was not found (see :mod:`disk_hloc.plugin`).
    """
    from disk_hloc.plugin import register

    return register()


def view(model: pycolmap.Reconstruction | Path | str) -> Figure:
    """Show a model in 3D, in a notebook: its points in colour, its cameras as frusta.

    Args:
        model: COLMAP's model, or its folder; or the output folder of ``disk-hloc reconstruct``, or
            a map.

    Returns:
        A figure of plotly, which a notebook draws; ``figure.show()`` opens a browser elsewhere.

    Raises:
        DiskHlocError: the folder has no model, or it is broken.
    """
    from disk_hloc.report.view import view

    return view(model)
