"""SuperGlue's list of pairs with ground truth.

Sarlin, DeTone, Malisiewicz, Rabinovich, "SuperGlue: Learning feature matching with graph neural
networks", CVPR 2020. A line has 38 words, ``name0 name1 rot0 rot1 K0 K1 T_0to1``: how many times to
rotate each photo by 90 degrees to make it upright, the intrinsics (3, 3) of each photo as stored,
row by row, in pixels with (0, 0) at the centre of the top-left pixel, and the (4, 4) ``1_from_0``.
Photos are used as they are stored, so the rotations are not needed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import camera_object
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.names import require_relative
from disk_hloc.io.text import read_lines


@dataclass(frozen=True)
class CalibratedPair:
    """Two images with their cameras and their relative pose.

    Attributes:
        names: of the images.
        camera0, camera1: COLMAP's, in its pixels.
        rotation: (3, 3) of ``cam1_from_cam0``.
        translation: (3,) of ``cam1_from_cam0``.
    """

    names: Pair
    camera0: pycolmap.Camera
    camera1: pycolmap.Camera
    rotation: np.ndarray
    translation: np.ndarray


def read_calibrated_pairs(path: Path) -> list[CalibratedPair]:
    """Read the pairs of a file, in their order.

    Raises:
        DiskHlocError: the file cannot be read or has no pairs, a line is not a pair, or a name
            leaves the folder of the images.
    """
    pairs = []
    for number, line in read_lines(path, "the pairs"):
        words = line.split()
        try:
            values = np.array([float(word) for word in words[2:]])
        except ValueError:
            values = np.zeros(0)
        if len(values) != 36 or not np.isfinite(values).all():
            raise DiskHlocError(
                f"{path}, line {number}: not `name0 name1 rot0 rot1 K0 K1 T_0to1` of 38 words"
            )
        intrinsics, transform = values[2:20].reshape(2, 3, 3), values[20:].reshape(4, 4)
        rotation = transform[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise DiskHlocError(f"{path}, line {number}: T_0to1 has no rotation")
        if (intrinsics[:, [0, 1], [0, 1]] <= 0).any():
            raise DiskHlocError(f"{path}, line {number}: a K has no focal length")
        camera0, camera1 = (_camera(k) for k in intrinsics)
        names = (
            require_relative(words[0], f"{path}, line {number}"),
            require_relative(words[1], f"{path}, line {number}"),
        )
        pairs.append(CalibratedPair(names, camera0, camera1, rotation, transform[:3, 3]))
    if not pairs:
        raise DiskHlocError(f"{path} has no pairs")
    return pairs


def _camera(k: np.ndarray) -> pycolmap.Camera:
    # Relative poses do not depend on the photos' sizes. COLMAP's pixels begin at the corner.
    text = f"PINHOLE {k[0, 0]},{k[1, 1]},{k[0, 2] + 0.5},{k[1, 2] + 0.5}"
    return camera_object(text, 1, 1)
