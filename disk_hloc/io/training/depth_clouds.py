"""Turn depth maps with known cameras and poses into points.

The depth map of ``a.jpg`` is ``a.jpg.geometric.bin`` (COLMAP's dense workspace), ``a.h5`` (training
data) or ``a.npy`` (drawn scenes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError, listing
from disk_hloc.geometry import Pose
from disk_hloc.io.benchmarks.calibration import read_calibration
from disk_hloc.io.colmap import camera_object, camera_rays, cameras_of, poses_of, read_model
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.images import SUFFIXES

from .dataset import read_depth
from .depth_maps import read_depth_map

# More pixels than these are taken at regular steps: a scan as dense would have a gigabyte.
MAX_POINTS = 10_000_000
_ROUNDING_PX = 2


@dataclass(frozen=True)
class View:
    """A photo with known camera and pose.

    Attributes:
        name: of the photo; it may lack its suffix.
        camera: COLMAP's; a width of 1 says that the photo has the size of its depth map.
        pose: cam_from_world in the unit of the depth.
    """

    name: str
    camera: pycolmap.Camera
    pose: Pose


def read_views(folder: Path) -> list[View]:
    """Read the cameras and poses of photos.

    Args:
        folder: of a COLMAP model, of a drawn scene (``camera.txt`` and ``poses.txt``), or of
            ``calibration_*.h5`` files, whose photos have the size of their depth maps.

    Raises:
        DiskHlocError: it is not one of these, or broken.
    """
    if any((folder / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
        model = read_model(folder)
        cameras = cameras_of(model)
        return [View(name, cameras[name], pose) for name, pose in poses_of(model).items()]
    if (folder / "camera.txt").is_file() and (folder / "poses.txt").is_file():
        name, width, height, parameters = read_camera(folder / "camera.txt")
        text = f"{name} {','.join(map(str, parameters))}"
        camera = camera_object(text, width, height)
        return [View(name, camera, pose) for name, pose in read_poses(folder / "poses.txt").items()]
    views = []
    for path in sorted(folder.glob("calibration_*.h5")):
        text, pose = read_calibration(path)
        name = path.name.removeprefix("calibration_").removesuffix(".h5")
        views.append(View(name, camera_object(text, 1, 1), pose))
    if not views:
        raise DiskHlocError(
            f"{folder} has no cameras and poses: give a COLMAP model, a drawn scene with "
            "camera.txt and poses.txt, or a folder of calibration_*.h5"
        )
    return views


def read_depth_cloud(folder: Path, views: list[View]) -> np.ndarray:
    """Return the points that depth maps show.

    Args:
        folder: of the depth maps; a view without one is left out.
        views: cameras and poses.

    Returns:
        (N, 3) float32 in the world, at most about :data:`MAX_POINTS`: of larger maps every second,
        third ... pixel of every second, third ... row is taken.

    Raises:
        DiskHlocError: no view has a depth map, one is broken or has other proportions than its
            photo, or no depth is known.
    """
    files = [(view, path) for view in views if (path := _file(folder, view.name)) is not None]
    if not files:
        raise DiskHlocError(
            f"{folder} has no depth maps (a.jpg.geometric.bin, a.h5 or a.npy) of the images "
            f"{listing([view.name for view in views])}"
        )
    pixels = _read(files[0][1]).size * len(files)
    step = max(1, int(np.ceil(np.sqrt(pixels / MAX_POINTS))))
    clouds = list(_clouds(files, step))
    points = np.concatenate(clouds)
    if not len(points):
        raise DiskHlocError(f"the depth maps of {folder} know no depth")
    return points


def _clouds(files: list[tuple[View, Path]], step: int) -> Iterator[np.ndarray]:
    for view, path in tqdm(files, desc="Depth maps", unit="image"):
        depth = _read(path)
        height, width = depth.shape
        camera = view.camera
        size = (width, height) if camera.width == 1 else (camera.width, camera.height)
        scale_x, scale_y = size[0] / width, size[1] / height
        # Stereo rounds the size of a map that it scales down.
        if abs(width * size[1] / size[0] - height) > _ROUNDING_PX:
            raise DiskHlocError(
                f"{path} has {width} x {height} pixels, but its photo {size[0]} x {size[1]}: the "
                "depth maps are of other photos"
            )
        rows, columns = np.nonzero(np.nan_to_num(depth[::step, ::step], posinf=0) > 0)
        rows, columns = rows * step, columns * step
        centers = np.column_stack([(columns + 0.5) * scale_x, (rows + 0.5) * scale_y])
        rays = np.column_stack([camera_rays(camera, centers), np.ones(len(centers))])
        points = rays * depth[rows, columns, None]
        world = (points - view.pose.translation) @ view.pose.rotation
        yield world[np.isfinite(world).all(axis=1)].astype(np.float32)


def _file(folder: Path, name: str) -> Path | None:
    stem = str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(SUFFIXES) else name
    names = (f"{name}.geometric.bin", f"{stem}.h5", f"{stem}.npy")
    return next((folder / one for one in names if (folder / one).is_file()), None)


def _read(path: Path) -> np.ndarray:
    """Read an (H, W) depth map; unknown depth is 0 or not finite."""
    if path.suffix == ".bin":
        return read_depth_map(path)
    if path.suffix == ".h5":
        return read_depth(path)
    try:
        depth = np.load(path, allow_pickle=False)
    except PARSER_ERRORS as error:
        raise DiskHlocError(f"cannot read the depth map {path}: {error}") from error
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind != "f":
        raise DiskHlocError(f"{path} is not a depth map: it has the shape {depth.shape}")
    return depth
