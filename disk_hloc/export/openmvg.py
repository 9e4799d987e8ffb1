"""openMVG's ``sfm_data.json``, version 0.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.io import colmap
from disk_hloc.io.replace import replace_json

from .source import Source, require_models

# COLMAP's model -> openMVG's, the key of its distortion, and how many values that has.
_MODELS: dict[str, tuple[str, str, int]] = {
    "SIMPLE_PINHOLE": ("pinhole", "", 0),
    "SIMPLE_RADIAL": ("pinhole_radial_k1", "disto_k1", 1),
    "RADIAL": ("pinhole_radial_k3", "disto_k3", 3),
}
# Of cereal, the library that reads and writes these files: an object or a type that comes for the
# first time, and a type without a name.
_FIRST = 1 << 31
_NAMELESS = 1 << 30


def write(source: Source, folder: Path) -> None:
    """Write ``sfm_data.json``: views, intrinsics, poses, and points with their observations.

    Pixels are openMVG's: (0, 0) at the centre of the top-left pixel.

    Raises:
        DiskHlocError: a camera that openMVG does not know.
    """
    require_models(source, list(_MODELS), "openmvg")
    images = source.images()
    views = {image.image_id: number for number, image in enumerate(images)}
    root = "" if source.image_dir is None else str(source.image_dir.resolve())
    replace_json(
        folder / "sfm_data.json",
        {
            "sfm_data_version": "0.3",
            "root_path": root,
            "views": [_view(source.model, image, number) for number, image in enumerate(images)],
            "intrinsics": _intrinsics(source, len(images)),
            "extrinsics": [_extrinsic(image, number) for number, image in enumerate(images)],
            "structure": [
                {"key": number, "value": _landmark(source.model, point, views)}
                for number, (_, point) in enumerate(sorted(source.model.points3D.items()))
            ],
            "control_points": [],
        },
    )


def _view(model: pycolmap.Reconstruction, image: pycolmap.Image, number: int) -> dict[str, Any]:
    camera = model.cameras[image.camera_id]
    folder, _, filename = image.name.rpartition("/")
    data = {
        "local_path": folder, "filename": filename,
        "width": camera.width, "height": camera.height,
        "id_view": number, "id_intrinsic": image.camera_id, "id_pose": number,
    }  # fmt: skip
    pointer = {"id": _FIRST + number + 1, "data": data}
    return {"key": number, "value": {"polymorphic_id": _NAMELESS, "ptr_wrapper": pointer}}


def _intrinsics(source: Source, num_before: int) -> list[dict[str, Any]]:
    """Return the cameras; this many objects come before them in the file."""
    found: list[dict[str, Any]] = []
    types: dict[str, int] = {}
    for camera_id in sorted({image.camera_id for image in source.images()}):
        camera = source.model.cameras[camera_id]
        name, key, count = _MODELS[camera.model.name]
        data: dict[str, Any] = {
            "width": camera.width, "height": camera.height,
            "focal_length": float(camera.focal_length),
            "principal_point": [camera.principal_point_x - 0.5, camera.principal_point_y - 0.5],
        }  # fmt: skip
        if count:
            given = [float(value) for value in camera.params[3:]]
            data[key] = given + [0.0] * (count - len(given))
        kind: dict[str, Any] = {"polymorphic_id": types.get(name, 0)}
        if name not in types:
            types[name] = len(types) + 1
            kind = {"polymorphic_id": _FIRST + types[name], "polymorphic_name": name}
        pointer = {"id": _FIRST + num_before + len(found) + 1, "data": data}
        found.append({"key": camera_id, "value": {**kind, "ptr_wrapper": pointer}})
    return found


def _extrinsic(image: pycolmap.Image, number: int) -> dict[str, Any]:
    pose = colmap.to_pose(colmap.cam_from_world(image))
    value = {"rotation": pose.rotation.tolist(), "center": pose.center.tolist()}
    return {"key": number, "value": value}


def _landmark(
    model: pycolmap.Reconstruction, point: pycolmap.Point3D, views: dict[int, int]
) -> dict[str, Any]:
    observations = []
    for element in point.track.elements:
        xy = np.asarray(model.images[element.image_id].points2D[element.point2D_idx].xy) - 0.5
        value = {"id_feat": element.point2D_idx, "x": xy.tolist()}
        observations.append({"key": views[element.image_id], "value": value})
    return {"X": np.asarray(point.xyz).tolist(), "observations": observations}
