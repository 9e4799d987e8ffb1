"""What a localizer keeps in memory of a map: arrays that are read, or mapped, in a moment.

A folder of .npy files, one for each array, and ``images.json``. The descriptors are those of
keypoints that see a point of the model: others tell nothing about a query's pose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.geometry import Pose

from .replace import replace_json

_JSON = "images.json"
# Of arrays that outgrow the budget only these are large.
_MAPPED = ("descriptors",)


@dataclass(frozen=True)
class MapIndex:
    """The arrays. I images with K keypoints that see P points.

    Attributes:
        names: of the images.
        sizes: (I, 2) int64 width and height in pixels.
        poses: (I, 7) float64 cam_from_world: quaternion w, x, y, z and translation.
        turns: (I,) int64, by how many quarters each was turned for extraction.
        starts: (I + 1,) int64: the keypoints of image i are rows ``starts[i]`` to ``starts[i+1]``.
        keypoints: (K, 2) float32 pixels, (0, 0) at the centre of the top-left pixel.
        descriptors: (K, D) float16.
        points: (K,) int64, rows of ``xyz``.
        xyz: (P, 3) float64, in units of the model.
        colors: (P, 3) uint8.
        point_ids: (P,) int64, COLMAP's.
        global_descriptors: (I, D') float32 of unit length, or zero.
        look_starts, look_places, look_octaves, look_angles, look_descriptors: keypoints by which a
            query is turned (:mod:`disk_hloc.models.turn_votes`), image after image.
        cameras: camera id -> ``{model, width, height, params}``.
        camera_ids: of each image.
        devices: of each image, or None where EXIF says nothing.
    """

    names: Sequence[str]
    sizes: np.ndarray
    poses: np.ndarray
    turns: np.ndarray
    starts: np.ndarray
    keypoints: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray
    xyz: np.ndarray
    colors: np.ndarray
    point_ids: np.ndarray
    global_descriptors: np.ndarray
    look_starts: np.ndarray
    look_places: np.ndarray
    look_octaves: np.ndarray
    look_angles: np.ndarray
    look_descriptors: np.ndarray
    cameras: Mapping[int, Mapping[str, Any]]
    camera_ids: Sequence[int]
    devices: Sequence[str | None]

    def pose(self, image: int) -> Pose:
        """Return the pose of an image."""
        return Pose(self.poses[image, :4], self.poses[image, 4:])

    def rows(self, image: int) -> slice:
        """Return the rows of the keypoints of an image."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    def look(self, image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the places, octaves, angles and descriptors by which an image is turned."""
        rows = slice(int(self.look_starts[image]), int(self.look_starts[image + 1]))
        return (
            self.look_places[rows],
            self.look_octaves[rows],
            self.look_angles[rows],
            self.look_descriptors[rows],
        )


_ARRAYS = tuple(f.name for f in fields(MapIndex) if f.type == "np.ndarray")


def write_index(index: MapIndex, folder: Path) -> None:
    """Write an index to a folder that nothing reads yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(index, name), allow_pickle=False)
    replace_json(
        folder / _JSON,
        {
            "names": list(index.names),
            "cameras": {str(key): dict(camera) for key, camera in index.cameras.items()},
            "camera_ids": [int(i) for i in index.camera_ids],
            "devices": list(index.devices),
        },
    )


def read_index(folder: Path, memory_budget: int = 1 << 30) -> MapIndex:
    """Read an index.

    Args:
        folder: of :func:`write_index`.
        memory_budget: descriptors of more bytes stay on the disk, and are read as they are needed.

    Raises:
        DiskHlocError: a file is missing or broken, or the arrays do not fit each other.
    """
    try:
        arrays = {}
        for name in _ARRAYS:
            path = folder / f"{name}.npy"
            # Mapped first: the sizes in a broken header are then checked before memory is taken.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            stays = name in _MAPPED and array.nbytes > memory_budget
            arrays[name] = array if stays else np.array(array)
        content = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        index = MapIndex(
            **arrays,
            names=[str(name) for name in content["names"]],
            cameras={int(key): dict(camera) for key, camera in content["cameras"].items()},
            camera_ids=[int(i) for i in content["camera_ids"]],
            devices=[None if key is None else str(key) for key in content["devices"]],
        )
    except (*PARSER_ERRORS, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"the index {folder} cannot be read: {reason}; build the map again"
        ) from error
    wrong = _misfit(index)
    if wrong:
        raise DiskHlocError(f"the index {folder} is broken: {wrong}; build the map again")
    return index


def _misfit(index: MapIndex) -> str | None:
    """Return what does not fit in an index, or None."""
    count, total, num_points = len(index.names), len(index.points), len(index.xyz)
    shapes = {
        "sizes": (count, 2), "poses": (count, 7), "turns": (count,), "starts": (count + 1,),
        "keypoints": (total, 2), "descriptors": (total, None), "points": (total,),
        "xyz": (num_points, 3), "colors": (num_points, 3), "point_ids": (num_points,),
        "global_descriptors": (count, None), "look_starts": (count + 1,),
    }  # fmt: skip
    for name, shape in shapes.items():
        found = getattr(index, name).shape
        if len(found) != len(shape) or any(
            b is not None and a != b for a, b in zip(found, shape, strict=True)
        ):
            return f"{name} has shape {found}"
    if total and not (index.points.min() >= 0 and index.points.max() < num_points):
        return "a keypoint sees a point that is not there"
    for name, end in (("starts", total), ("look_starts", len(index.look_places))):
        starts = getattr(index, name)
        if starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
            return f"{name} does not fit its keypoints"
    if not (len(index.camera_ids) == len(index.devices) == count):
        return f"{_JSON} does not name as many cameras as images"
    if not set(index.camera_ids) <= set(index.cameras):
        return f"{_JSON} names a camera that it does not have"
    return None
