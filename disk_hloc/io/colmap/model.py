"""COLMAP's models: read one, and get the cameras and poses of its images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


def read_models(sfm_dir: Path) -> list[pycolmap.Reconstruction]:
    """Read all models of a folder, the largest first; an empty list without any."""
    if not (sfm_dir / "images.bin").is_file():
        return []
    numbered = [path for path in sfm_dir.iterdir() if path.name.isdigit() and path.is_dir()]
    folders = sorted(numbered, key=lambda path: int(path.name)) or [sfm_dir]
    return [read_model(path) for path in folders]


def seeing_points(model: pycolmap.Reconstruction) -> set[str]:
    """Return the names of the images that see points of a model."""
    return {image.name for image in registered_images(model) if image.num_points3D > 0}


def update_errors(model: pycolmap.Reconstruction) -> None:
    """Compute the reprojection error of each point; pycolmap 3.10 has only those of its file."""
    if hasattr(model, "update_point_3d_errors"):
        model.update_point_3d_errors()


def points_seen_by(model: pycolmap.Reconstruction, image_ids: Collection[int]) -> set[int]:
    """Return the ids of the points that some images see."""
    return {
        point.point3D_id
        for image_id in image_ids
        for point in model.images[image_id].points2D
        if point.has_point3D()
    }


def model_of_photos(models: Sequence[pycolmap.Reconstruction]) -> dict[str, int]:
    """Return photo -> the first model in which it sees points, as an index."""
    model_of: dict[str, int] = {}
    for number, model in reversed(list(enumerate(models))):
        model_of |= dict.fromkeys(seeing_points(model), number)
    return model_of


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


def from_pose(pose: Pose) -> pycolmap.Rigid3d:
    """Return a pose as pycolmap's."""
    return pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation)


def poses_of(model: pycolmap.Reconstruction) -> dict[str, Pose]:
    """Return image name -> pose of the registered images."""
    return {image.name: to_pose(cam_from_world(image)) for image in registered_images(model)}


def cameras_of(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Camera]:
    """Return image name -> camera of the registered images."""
    return {image.name: model.cameras[image.camera_id] for image in registered_images(model)}


def with_keypoints(
    model: pycolmap.Reconstruction, keypoints: Mapping[int, np.ndarray]
) -> pycolmap.Reconstruction:
    """Return a copy of a model, some of whose images have more keypoints.

    Args:
        model: a reconstruction.
        keypoints: image id -> (N, 2), first those that the image has in the model.
    """
    copy = pycolmap.Reconstruction()
    for camera in model.cameras.values():
        copy.add_camera(camera)
    for rig in model.rigs.values():
        copy.add_rig(rig)
    for frame in model.frames.values():
        copy.add_frame(bare_frame(frame))
    for image_id, image in model.images.items():
        copy.add_image(bare_image(image, keypoints.get(image_id)))
    for frame_id in model.reg_frame_ids():
        copy.register_frame(frame_id)
    for point in model.points3D.values():
        copy.add_point3D(point.xyz, pycolmap.Track(point.track.elements), point.color)
    return copy


def bare_frame(frame: pycolmap.Frame) -> pycolmap.Frame:
    """Return a copy of a frame, with its pose, that belongs to no model."""
    bare = pycolmap.Frame(frame_id=frame.frame_id, rig_id=frame.rig_id)
    for data_id in frame.data_ids:
        bare.add_data_id(data_id)
    if frame.has_pose:
        bare.rig_from_world = frame.rig_from_world
    return bare


def bare_image(image: pycolmap.Image, keypoints: np.ndarray | None = None) -> pycolmap.Image:
    """Return a copy of an image that sees no points and belongs to no model.

    Args:
        image: an image.
        keypoints: (N, 2) other keypoints in pixels; None keeps those of the image.
    """
    if keypoints is None:
        keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
    bare = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
    bare.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in keypoints])
    bare.frame_id = image.frame_id
    return bare
