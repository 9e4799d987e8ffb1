"""Read training data sets in the format of DISK's release (:mod:`.files`).

The published files are supported too. They have other file names: the names in ``images`` have no
suffix, the calibration of ``a.jpg`` is ``calibration_a.h5``, and depth maps may have another size
than the photo.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.benchmarks.calibration import read_calibration
from disk_hloc.io.images import ImageReadError, read_image, resize_image
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import find, read_values, require_array

from .files import Scene, read_dataset, tuple_size


@dataclass(frozen=True)
class TrainingScene:
    """A scene of a data set.

    Attributes:
        name: name of the scene.
        image_dir, calibration_dir: existing folders.
        depth_dir: existing folder; None if depth is not used.
        images: names of the images.
        tuples: (T, K) int64 indices of covisible images.
    """

    name: str
    image_dir: Path
    calibration_dir: Path
    depth_dir: Path | None
    images: tuple[str, ...]
    tuples: np.ndarray


@dataclass(frozen=True)
class TrainingImage:
    """A resized and padded photo with its calibration, pose and depth.

    Attributes:
        image: (3, H, W) float32 RGB in [0, 1], zero in the padding.
        size: width and height in pixels without the padding.
        matrix: (3, 3) float64 intrinsics of the resized photo, with (0, 0) at the centre of the
            top-left pixel as for keypoints.
        rotation, translation: (3, 3) and (3,) float64 of cam_from_world.
        depth: (H, W) float32 z-depth, NaN where it is unknown and in the padding; None if depth is
            not used.
    """

    image: np.ndarray
    size: tuple[int, int]
    matrix: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    depth: np.ndarray | None


def read_training_set(path: Path, depth: bool = True) -> list[TrainingScene]:
    """Read the scenes of a data set that have tuples, in the file's order.

    Args:
        path: ``dataset.json``, or its folder.
        depth: whether depth maps are needed.

    Raises:
        DiskHlocError: the file cannot be read, has another format or no tuples, or a folder does
            not exist.
    """
    path = path / "dataset.json" if path.is_dir() else path
    content = read_dataset(path)
    try:
        length = tuple_size(content)
    except DiskHlocError as error:
        raise DiskHlocError(f"{path}: {error}") from error
    if length < 2:
        raise DiskHlocError(f"{path} has no tuples of at least two images, which training needs")
    return [_scene(path, name, entry, depth) for name, entry in content.items() if entry["tuples"]]


def describe_training_set(scenes: Sequence[TrainingScene]) -> str:
    """Return a line that is another for other scenes, images or tuples.

    Folders are not part of it: a data set may be moved.
    """
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(json.dumps([scene.name, scene.images, scene.tuples.shape]).encode())
        digest.update(scene.tuples.astype("<i8").tobytes())
    num_images = sum(len(scene.images) for scene in scenes)
    num_tuples = sum(len(scene.tuples) for scene in scenes)
    return (
        f"{num_tuples} tuples of {num_images} images (scenes: {len(scenes)}, digest "
        f"{digest.hexdigest()[:12]})"
    )


def read_training_image(
    scene: TrainingScene, index: int, size: tuple[int, int], interpolation: str = "cv2_linear"
) -> TrainingImage:
    """Read one photo of a scene with its calibration, pose and depth.

    The photo is resized to fit ``size``, keeps its aspect ratio, and is padded at the right and
    bottom.

    Args:
        scene: the scene.
        index: index of the image in the scene.
        size: width and height in pixels after padding.
        interpolation: interpolation of the photo, see :func:`disk_hloc.io.images.resize_image`.

    Raises:
        DiskHlocError: a file is missing or broken.
    """
    name = scene.images[index]
    photo_path = _first(scene.image_dir, (name, f"{_stem(name)}.jpg", f"{_base(name)}.jpg"), name)
    try:
        photo = read_image(photo_path)
    except ImageReadError as error:
        raise DiskHlocError(f"{photo_path} cannot be read: {error}") from error
    height, width = photo.shape[:2]
    fitted = fitted_size((width, height), size)
    resized = resize_image(photo.astype(np.float32) / 255, fitted, interpolation)
    calibration = [f"calibration_{name}.h5", f"calibration_{_stem(name)}.h5"]
    camera, pose = read_calibration(_first(scene.calibration_dir, calibration, name))
    fx, fy, cx, cy = (float(value) for value in camera.removeprefix("PINHOLE ").split(","))
    along_x, along_y = fitted[0] / width, fitted[1] / height
    matrix = np.array(
        [[fx * along_x, 0, cx * along_x - 0.5], [0, fy * along_y, cy * along_y - 0.5], [0, 0, 1]]
    )
    depth = None
    if scene.depth_dir is not None:
        names = (f"{_stem(name)}.h5", f"{_base(name)}.h5")
        known = read_depth(_first(scene.depth_dir, names, name))
        depth = _padded(resize_image(known, fitted, "cv2_linear"), size, np.nan)
    return TrainingImage(
        np.ascontiguousarray(_padded(resized, size, 0).transpose(2, 0, 1)),
        fitted,
        matrix,
        pose.rotation,
        pose.translation,
        depth,
    )


def fitted_size(size: tuple[int, int], limit: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height to which the release resizes a photo of ``size``, in pixels.

    One side equals that of ``limit``; the other one is rounded down.
    """
    if size[1] * limit[0] > size[0] * limit[1]:
        return max(1, size[0] * limit[1] // size[1]), limit[1]
    return limit[0], max(1, size[1] * limit[0] // size[0])


def read_depth(path: Path) -> np.ndarray:
    """Read a depth map, (H, W) float32, NaN where it is unknown."""
    with reading(path) as file:
        stored = find(file, "depth")
        if not isinstance(stored, h5py.Dataset):
            raise DiskHlocError(f"{path} has no array 'depth'")
        require_array(stored, (None, None))
        # Not by `read`: unknown depth may be stored as NaN.
        depth = np.asarray(read_values(stored), np.float32)
    if not depth.size:
        raise DiskHlocError(f"{path}: depth must have shape (H, W), found {depth.shape}")
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _scene(path: Path, name: str, entry: Scene, depth: bool) -> TrainingScene:
    if depth and not entry.get("depth_path"):
        raise DiskHlocError(
            f"{path}: scene {name!r} has no depth_path; --reward epipolar does not need it"
        )
    return TrainingScene(
        name,
        _folder(path, name, entry["image_path"]),
        _folder(path, name, entry["calib_path"]),
        _folder(path, name, entry["depth_path"]) if depth else None,
        tuple(entry["images"]),
        np.array(entry["tuples"], np.int64),
    )


def _folder(path: Path, scene: str, folder: str) -> Path:
    # The current folder comes last, since it has nothing to do with the file.
    candidates = list(dict.fromkeys([path.parent / folder, Path(folder)]))
    for candidate in candidates:
        if folder and candidate.is_dir():
            return candidate
    raise DiskHlocError(
        f"{path}: the folder {folder!r} of scene {scene!r} does not exist: tried "
        f"{listing([str(candidate) for candidate in candidates])}"
    )


def _first(folder: Path, names: Sequence[str], image: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DiskHlocError(
        f"{folder} has no {listing(list(dict.fromkeys(names)))} for the image {image}"
    )


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _base(name: str) -> str:
    """Return the stem as the release computes it, up to the first dot."""
    return name.split(".")[0]


def _padded(values: np.ndarray, size: tuple[int, int], value: float) -> np.ndarray:
    width, height = size
    missing = [(0, height - values.shape[0]), (0, width - values.shape[1])]
    return np.pad(values, missing + [(0, 0)] * (values.ndim - 2), constant_values=value)
