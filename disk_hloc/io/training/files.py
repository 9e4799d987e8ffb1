"""Read and write the files of a training data set in the format of DISK's release.

``dataset.json`` maps the name of a scene to its folders and tuples::

    {"scene": {"image_path": ..., "calib_path": ..., "depth_path": ...,
               "images": ["a.jpg", ...], "tuples": [[0, 1, 2], ...]}}

Folders are absolute, or relative to the file. Without ``depth_path`` only the epipolar reward can
be used. All tuples have the same size.

The calibration of an image ``a.jpg`` is ``calibration_a.jpg.h5`` in the folder of calibrations (the
Image Matching Challenge's files leave out the suffix). It holds ``K`` (3, 3) float32 in pixels of
the photo, with (0, 0) at the photo's top-left corner and (0.5, 0.5) at the centre of the first
pixel, as in COLMAP and the published data sets; ``R`` (3, 3) and ``T`` (3,) float64 of
cam_from_world, x_cam = R x + T. Keypoints have (0, 0) at the centre of the first pixel: add half a
pixel to them before using K.

``a.h5`` in the folder of depths holds ``depth`` (H, W), the z-depth at the centres of the pixels in
the unit of T, 0 where it is unknown. The release writes float16. We write float32, since float16
moves a reprojection by up to an eighth of a pixel, and ends at 65,504.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.replace import replace_text
from disk_hloc.io.store import replacing

Scene = dict[str, Any]

FOLDERS = ("image_path", "calib_path", "depth_path")


def calibration_path(folder: Path, name: str) -> Path:
    """Return the path of the calibration of an image."""
    return folder / f"calibration_{name}.h5"


def depth_path(folder: Path, name: str) -> Path:
    """Return the path of the depth map of an image."""
    return folder / f"{PurePosixPath(name).with_suffix('')}.h5"


def require_distinct_stems(names: Sequence[str]) -> None:
    """Check that each image has its own depth file, inside the folder.

    Raises:
        DiskHlocError: two names only differ in their suffix, or a name points outside the folder.
    """
    outside = [name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts]
    if outside:
        raise DiskHlocError(f"image names point outside their folder: {listing(outside)}")
    found: dict[PurePosixPath, str] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        if stem in found:
            raise DiskHlocError(
                f"{found[stem]} and {name} would share a depth file: rename one of them"
            )
        found[stem] = name


def write_calibration(
    folder: Path, name: str, matrix: ArrayLike, rotation: ArrayLike, translation: ArrayLike
) -> None:
    """Write the calibration of an image.

    Args:
        folder: the folder of calibrations.
        name: name of the image.
        matrix: (3, 3) in pixels, with (0.5, 0.5) at the centre of the first pixel.
        rotation: (3, 3) of cam_from_world.
        translation: (3,) of cam_from_world.
    """
    path = calibration_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 1 << 12, libver="earliest") as file:
        file.create_dataset("K", data=np.asarray(matrix, np.float32).reshape(3, 3))
        file.create_dataset("R", data=np.asarray(rotation, np.float64).reshape(3, 3))
        file.create_dataset("T", data=np.asarray(translation, np.float64).reshape(3))


def write_depth(folder: Path, name: str, depth: np.ndarray) -> None:
    """Write the depth map of an image: (H, W) z-depth, 0 where it is unknown; stored as float32."""
    path = depth_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 4 * depth.size, libver="earliest") as file:
        file.create_dataset("depth", data=depth.astype(np.float32))


def write_dataset(path: Path, scenes: Mapping[str, Scene]) -> None:
    """Write ``dataset.json``, which is complete or unchanged."""
    replace_text(path, json.dumps(scenes) + "\n")


def read_dataset(path: Path) -> dict[str, Scene]:
    """Read the scenes of a data set by name, as they are stored.

    Raises:
        DiskHlocError: the file cannot be read, has no scene, or a scene is incomplete.
    """
    try:
        scenes = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DiskHlocError(f"cannot read the data set {path}: {error}") from error
    if not isinstance(scenes, dict) or not scenes:
        raise DiskHlocError(f"{path} is not a data set: expected a mapping from names to scenes")
    for name, scene in scenes.items():
        reason = _flaw(scene)
        if reason:
            raise DiskHlocError(f"{path}: the scene {name} {reason}")
    return scenes


def tuple_size(scenes: Mapping[str, Scene]) -> int:
    """Return the number of images in each tuple; 0 if there are no tuples.

    Raises:
        DiskHlocError: the tuples have different sizes.
    """
    sizes = {len(one): name for name, scene in scenes.items() for one in scene["tuples"]}
    if len(sizes) > 1:
        examples = ", ".join(f"{size} in {name}" for size, name in sorted(sizes.items()))
        raise DiskHlocError(f"tuples of different sizes cannot be trained on together: {examples}")
    return next(iter(sizes), 0)


def _flaw(scene: Any) -> str | None:
    if not isinstance(scene, dict):
        return "is not a mapping"
    missing = [key for key in ("image_path", "calib_path", "images", "tuples") if key not in scene]
    if missing:
        return f"has no {', '.join(missing)}"
    for key in FOLDERS:
        if not isinstance(scene.get(key, ""), str):
            return f"has a {key} that is not a string"
    images, tuples = scene["images"], scene["tuples"]
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        return "has images that are not a list of names"
    if not isinstance(tuples, list) or not all(isinstance(one, list) for one in tuples):
        return "has tuples that are not lists"
    # As an array, since the published data have millions.
    try:
        indices = np.array(list(chain.from_iterable(tuples)) or [0])
    except ValueError:
        return "has tuples that are not lists of numbers"
    within = indices.dtype.kind == "i" and 0 <= indices.min() <= indices.max() < len(images)
    if tuples and not within:
        return f"has a tuple with an index outside its {len(images)} images"
    return None
