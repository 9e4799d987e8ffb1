"""COLMAP's models: read one, and get the cameras and poses of its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.names import require_relative

from .check_model import require_sound_files

# Where a model is that is complete but not in its place yet (disk_hloc.io.colmap.model_folder).
COMPLETE = Path("models", ".complete")
MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin", "frames.bin", "rigs.bin")


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read the model of a folder.

    Raises:
        DiskHlocError: there is no model, it is broken, or it has no image with a pose.
    """
    if not any((folder / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
        if (folder / COMPLETE).exists():
            raise DiskHlocError(
                f"the model in {folder} is not in its place yet: the command that built it was "
                "killed; run it again"
            )
        raise DiskHlocError(f"{folder} has no COLMAP model: no images.bin and no images.txt")
    require_sound_files(folder)
    try:
        model = pycolmap.Reconstruction(folder)
        names = [image.name for image in model.images.values()]
    except Exception as error:
        raise DiskHlocError(
            f"the COLMAP model {folder} cannot be read: {' '.join(str(error).split())[:200]}"
        ) from error
    for name in names:
        require_relative(name, folder)
    for camera_id, camera in model.cameras.items():
        if camera.width < 1 or camera.height < 1 or not np.isfinite(camera.params).all():
            raise DiskHlocError(
                f"the COLMAP model {folder} is broken: camera {camera_id} has {camera.width} x "
                f"{camera.height} pixels and the parameters {camera.params_to_string()}"
            )
    if model.num_reg_images() == 0:
        raise DiskHlocError(f"the COLMAP model {folder} has no image with a pose")
    return model


def registered_images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Return the images that have a pose, in the order of their ids."""
    return [model.images[image_id] for image_id in model.reg_image_ids()]


def cam_from_world(image: pycolmap.Image) -> pycolmap.Rigid3d:
    """Return the pose of a registered image: an attribute until pycolmap 3.11, then a method."""
    pose = image.cam_from_world
    return pose() if callable(pose) else pose


def to_pose(rigid: pycolmap.Rigid3d) -> Pose:
    """Return a pose as ours: pycolmap has the quaternion as x, y, z, w."""
    x, y, z, w = rigid.rotation.quat
    return Pose(np.array([w, x, y, z]), np.array(rigid.translation))


def poses_of(model: pycolmap.Reconstruction) -> dict[str, Pose]:
    """Return image name -> pose of the registered images."""
    return {image.name: to_pose(cam_from_world(image)) for image in registered_images(model)}


def cameras_of(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Camera]:
    """Return image name -> camera of the registered images."""
    return {image.name: model.cameras[image.camera_id] for image in registered_images(model)}
