"""The calibration files of the Image Matching Challenge.

Jin, Mishkin, Mishchuk, Matas, Fua, Yi, Trulls, "Image Matching across Wide Baselines: From Paper to
Practice", IJCV 2020. An image ``a.jpg`` has ``calibration_a.h5`` with ``K`` (3, 3), the intrinsics
in pixels with (0, 0) at the corner of the image as COLMAP's, and ``R`` (3, 3) and ``T`` (3,) of
cam_from_world: x_cam = R x + T. The unit of length is each scene's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import to_pose
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import find, read


def read_calibrations(folder: Path, names: Iterable[str]) -> tuple[dict[str, str], dict[str, Pose]]:
    """Read the cameras and poses of images.

    Args:
        folder: the folder with the ``calibration_*.h5`` files.
        names: the images.

    Returns:
        Image name -> ``"PINHOLE fx,fy,cx,cy"`` in COLMAP's pixels, and image name -> pose.

    Raises:
        DiskHlocError: an image has no file there, or a file is broken.
    """
    names = list(names)
    paths = {name: folder / f"calibration_{PurePosixPath(name).stem}.h5" for name in names}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise DiskHlocError(
            f"{folder} has no calibration_*.h5 of {len(missing)} of {len(names)} images: "
            f"{listing(missing)}; remove these photos, or add their files"
        )
    cameras, poses = {}, {}
    for name, path in paths.items():
        cameras[name], poses[name] = read_calibration(path)
    return cameras, poses


def read_calibration(path: Path) -> tuple[str, Pose]:
    """Read the camera and pose of one file.

    Raises:
        DiskHlocError: K, R or T is missing, R is not a rotation, or the pixels are skewed.
    """
    with reading(path) as file:
        k, r, t = (_read(file, key) for key in "KRT")
    if (k.shape, r.shape, t.size) != ((3, 3), (3, 3), 3):
        raise DiskHlocError(f"{path}: K and R must be (3, 3) and T (3,)")
    if not np.allclose(r @ r.T, np.eye(3), atol=1e-4) or np.linalg.det(r) < 0:
        raise DiskHlocError(f"{path}: R is not a rotation")
    if abs(k[0, 1]) > 1e-6 * abs(k[0, 0]) or min(k[0, 0], k[1, 1]) <= 0:
        raise DiskHlocError(f"{path}: K has skewed pixels, or no focal length")
    camera = f"PINHOLE {k[0, 0]},{k[1, 1]},{k[0, 2]},{k[1, 2]}"
    return camera, to_pose(pycolmap.Rigid3d(pycolmap.Rotation3d(r), t.reshape(3)))


def _read(file: h5py.File, key: str) -> np.ndarray:
    stored = find(file, key)
    if not isinstance(stored, h5py.Dataset) or stored.shape is None:
        raise DiskHlocError(f"{file.filename}: K, R or T is missing, or not numbers")
    values: np.ndarray = read(file, key, stored.shape).astype(np.float64)
    return values
