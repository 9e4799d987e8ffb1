"""Read COLMAP's dense depth maps, ``stereo/depth_maps/<image>.geometric.bin`` in its workspace.

The header ``width&height&channels&`` is followed by float32 values, row by row.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError

_HEADER = re.compile(rb"(\d{1,7})&(\d{1,7})&(\d{1,3})&")


def read_depth_map(path: Path) -> np.ndarray:
    """Read a depth map.

    Returns:
        (H, W) float32, z-depth in the unit of the model, 0 where it is unknown.

    Raises:
        DiskHlocError: the file cannot be read, or is not a whole depth map.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DiskHlocError(f"cannot read the depth map {path}: {error.strerror}") from error
    header = _HEADER.match(content)
    if header is None:
        raise DiskHlocError(f"{path} is not a depth map of COLMAP: it does not begin with a size")
    width, height, channels = map(int, header.groups())
    expected = 4 * width * height * channels
    if channels != 1 or len(content) - header.end() != expected:
        raise DiskHlocError(
            f"{path} is not a whole depth map: expected {expected} bytes for {width} x {height} x "
            f"{channels}, found {len(content) - header.end()}; run COLMAP's stereo again"
        )
    depth = np.frombuffer(content, "<f4", offset=header.end()).reshape(height, width)
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
