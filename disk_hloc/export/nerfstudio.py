"""nerfstudio's ``transforms.json``, as its documentation of data conventions describes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap

from disk_hloc.io import colmap
from disk_hloc.io.replace import replace_json

from .source import Source, require_models

NAME = "nerfstudio"
# COLMAP's parameters after the focal lengths and the principal point, by nerfstudio's names.
_DISTORTION: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "SIMPLE_RADIAL_FISHEYE": ("k1",),
    "RADIAL_FISHEYE": ("k1", "k2"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
}


def write(source: Source, folder: Path) -> None:
    """Write ``transforms.json``, ``images/``, ``sparse_pc.ply``, and ``masks/`` if there are masks.

    The world is that of the model. Cameras look along -z with y up, so the second and third column
    of each ``transform_matrix`` (world_from_cam) have other signs than in COLMAP.

    Raises:
        DiskHlocError: a camera that nerfstudio does not know, or a photo or mask that is missing or
            has another size.
    """
    photos = source.photos(NAME)
    require_models(source, list(_DISTORTION), NAME)
    frames = []
    for image in source.images():
        camera = source.model.cameras[image.camera_id]
        copied = folder / "images" / image.name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / image.name, copied)
        frame = {
            "file_path": f"images/{image.name}",
            "transform_matrix": transform(colmap.cam_from_world(image)).tolist(),
            "colmap_im_id": image.image_id,
            **intrinsics(camera),
        }
        if source.masks is not None:
            keep = source.masks(image.name, (camera.width, camera.height))
            path = folder / "masks" / f"{image.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imencode(".png", keep.astype(np.uint8) * 255)[1].tofile(path)
            frame["mask_path"] = path.relative_to(folder).as_posix()
        frames.append(frame)
    source.model.export_PLY(folder / "sparse_pc.ply")
    models = {frame.pop("camera_model") for frame in frames}
    replace_json(
        folder / "transforms.json",
        {
            # One for all in nerfstudio's format.
            "camera_model": "OPENCV_FISHEYE" if "OPENCV_FISHEYE" in models else "OPENCV",
            "applied_transform": np.eye(4)[:3].tolist(),
            "ply_file_path": "sparse_pc.ply",
            "frames": frames,
        },
    )


def transform(cam_from_world: pycolmap.Rigid3d) -> np.ndarray:
    """Return the (4, 4) world_from_cam of a camera that looks along -z with y up."""
    matrix = np.eye(4)
    matrix[:3] = cam_from_world.inverse().matrix()
    matrix[:3, 1:3] *= -1
    return matrix


def intrinsics(camera: pycolmap.Camera) -> dict[str, Any]:
    """Return a camera as nerfstudio's keys; pixels as in COLMAP."""
    names = _DISTORTION[camera.model.name]
    focal_lengths = [float(camera.params[i]) for i in camera.focal_length_idxs()]
    distortion = camera.params[len(camera.params) - len(names) :]
    return {
        "camera_model": "OPENCV_FISHEYE" if "FISHEYE" in camera.model.name else "OPENCV",
        "w": camera.width,
        "h": camera.height,
        "fl_x": focal_lengths[0],
        "fl_y": focal_lengths[-1],
        "cx": float(camera.principal_point_x),
        "cy": float(camera.principal_point_y),
        **{name: float(value) for name, value in zip(names, distortion, strict=True)},
    }
