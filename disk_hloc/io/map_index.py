"""What a localizer keeps in memory of a map: arrays that are read, or mapped, in a moment.

A folder of .npy files, one for each array, and ``images.json``. The descriptors are those of
keypoints that see a point of the model: others tell nothing about a query's pose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.geometry import Pose

from .gps import LocalFrame, read_frame
from .map_folder import SETTINGS, MapFolder, read_map
from .names import is_relative
from .replace import replace_json

_JSON = "images.json"
# Of arrays that outgrow the budget only these are large.
_MAPPED = ("descriptors",)
# The dtype and shape of each array, as of MapIndex; L keypoints by which photos are turned.
_FORMS: dict[str, tuple[Any, ...]] = {
    "sizes": (np.int64, "I", 2),
    "poses": (np.float64, "I", 7),
    "turns": (np.int64, "I"),
    "starts": (np.int64, "I+1"),
    "keypoints": (np.float32, "K", 2),
    "descriptors": (np.float16, "K", None),
    "points": (np.int64, "K"),
    "xyz": (np.float64, "P", 3),
    "colors": (np.uint8, "P", 3),
    "point_ids": (np.int64, "P"),
    "global_descriptors": (np.float32, "I", None),
    "look_starts": (np.int64, "I+1"),
    "look_places": (np.float32, "L", 2),
    "look_octaves": (np.float32, "L"),
    "look_angles": (np.float32, "L"),
    "look_descriptors": (np.uint8, "L", 128),
}


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
        agreement: which share of the matches of the map's own photos agrees with their poses
            (:mod:`disk_hloc.stages.map_agreement`), or None.
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
    agreement: float | None = None

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


_ARRAYS = tuple(_FORMS)


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
            "agreement": index.agreement,
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
            cameras={int(key): _camera(camera) for key, camera in content["cameras"].items()},
            camera_ids=[int(i) for i in content["camera_ids"]],
            devices=[None if key is None else str(key) for key in content["devices"]],
            agreement=_share(content.get("agreement")),
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


def read_current(
    folder: Path, memory_budget: int = 1 << 30
) -> tuple[MapFolder, MapIndex, LocalFrame | None]:
    """Read a map with its index and frame, all of one model, also while photos are added to it.

    The files of the former model go once there is a new one, so a reader begins again if it finds
    that the map has changed meanwhile.

    Args:
        folder: the map.
        memory_budget: see :func:`read_index`.

    Raises:
        DiskHlocError: the folder holds no map, or one that is broken.
    """
    settings = folder / SETTINGS
    while True:
        before = settings.read_bytes() if settings.is_file() else b""
        try:
            made = read_map(folder)
            found = made, read_index(made.index, memory_budget), read_frame(made.georeference)
        except DiskHlocError:
            if settings.is_file() and settings.read_bytes() != before:
                continue
            raise
        if settings.is_file() and settings.read_bytes() == before:
            return found


def _misfit(index: MapIndex) -> str | None:
    """Return what does not fit in an index, or None."""
    sides = {
        "I": len(index.names), "I+1": len(index.names) + 1, "K": _rows(index.points),
        "P": _rows(index.xyz), "L": _rows(index.look_places),
    }  # fmt: skip
    for name, (dtype, *sizes) in _FORMS.items():
        array = getattr(index, name)
        expected = [sides.get(str(size), size) for size in sizes]
        if (
            array.dtype != dtype
            or array.ndim != len(expected)
            or any(
                wanted not in (None, found)
                for found, wanted in zip(array.shape, expected, strict=True)
            )
        ):
            return f"{name} has dtype {array.dtype} and shape {array.shape}"
    for name in ("poses", "xyz", "keypoints", "global_descriptors"):
        if not np.isfinite(getattr(index, name)).all():
            return f"{name} has numbers that are not finite"
    total, num_points = len(index.points), len(index.xyz)
    if total and not (index.points.min() >= 0 and index.points.max() < num_points):
        return "a keypoint sees a point that is not there"
    for name, end in (("starts", total), ("look_starts", len(index.look_places))):
        starts = getattr(index, name)
        if starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
            return f"{name} does not fit its keypoints"
    if (index.sizes <= 0).any() or (index.turns < 0).any() or (index.turns > 3).any():
        return "an image has an impossible size or turn"
    if len(set(index.names)) != len(index.names) or not all(map(is_relative, index.names)):
        return f"{_JSON} names an image twice, or outside the folder of the images"
    if not (len(index.camera_ids) == len(index.devices) == len(index.names)):
        return f"{_JSON} does not name as many cameras as images"
    if not set(index.camera_ids) <= set(index.cameras):
        return f"{_JSON} names a camera that it does not have"
    return None


def _rows(array: np.ndarray) -> int:
    return len(array) if array.ndim else 0


def _camera(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a camera as COLMAP takes it.

    Raises:
        ValueError, TypeError, KeyError: it is not one.
    """
    model, width, height = values["model"], int(values["width"]), int(values["height"])
    params = [float(value) for value in values["params"]]
    if model not in pycolmap.CameraModelId.__members__ or model == "INVALID":
        raise ValueError(f"no camera model is called {model!r}")
    camera = pycolmap.Camera(model=model, width=max(width, 1), height=max(height, 1), params=params)
    if min(width, height) < 1 or not camera.verify_params() or not np.isfinite(params).all():
        raise ValueError(f"a camera {model} has impossible parameters")
    return {"model": model, "width": width, "height": height, "params": params}


def _share(value: Any) -> float | None:
    if value is None:
        return None
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(f"the agreement is {value}")
    return share
