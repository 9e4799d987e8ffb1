"""COLMAP's models: reading one, and the poses of its images."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.names import require_relative

MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin", "frames.bin", "rigs.bin")


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """A model of a folder.

    Raises:
        DiskHlocError: there is none, or it cannot be read or has no image with a pose.
    """
    if not any((folder / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
        raise DiskHlocError(f"{folder} holds no COLMAP model: no images.bin and no images.txt")
    try:
        model = pycolmap.Reconstruction(folder)
        names = [image.name for image in model.images.values()]
    except Exception as error:
        raise DiskHlocError(
            f"the COLMAP model {folder} cannot be read: {' '.join(str(error).split())[:200]}"
        ) from error
    for name in names:
        require_relative(name, folder)
    if model.num_reg_images() == 0:
        raise DiskHlocError(f"the COLMAP model {folder} has no image with a pose")
    return model


def cam_from_world(image: pycolmap.Image) -> pycolmap.Rigid3d:
    """The pose of a registered image; an attribute until pycolmap 3.11, then a method."""
    pose = image.cam_from_world
    return pose() if callable(pose) else pose
