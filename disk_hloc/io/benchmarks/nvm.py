"""VisualSFM's NVM models, as Aachen Day-Night v1 comes with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io.hloc.queries import read_queries
from disk_hloc.io.names import require_relative


def read_nvm(path: Path, intrinsics_path: Path) -> pycolmap.Reconstruction:
    """A model, each image with a camera of its own.

    NVM has the centre of a camera in the world where COLMAP has a translation, keypoints relative
    to the principal point, and only those that are triangulated.

    Args:
        path: the NVM file. Its focal lengths and distortions are not used.
        intrinsics_path: a list of ``name MODEL width height parameters...``, as that of queries.

    Raises:
        DiskHlocError: a file cannot be read or is no such file, or an image lacks intrinsics.
    """
    cameras = read_queries(intrinsics_path)
    lines = _lines(path)
    try:
        if not next(lines).startswith("NVM_V3"):
            raise DiskHlocError(f"{path} is no NVM file: it does not begin with NVM_V3")
        views = [next(lines).split() for _ in range(int(next(lines)))]
        for view in views:
            # Those of the list are relative; a name that leads elsewhere is not among them.
            require_relative(view[0], path)
        missing = [view[0] for view in views if view[0] not in cameras]
        if missing:
            raise DiskHlocError(f"{intrinsics_path} lacks {missing[0]}, an image of {path}")
        points = []
        keypoints: list[list[tuple[float, float]]] = [[] for _ in views]
        for _ in tqdm(range(int(next(lines))), desc="Read NVM", unit="point"):
            words = next(lines).split()
            track = []
            for i in range(int(words[6])):
                number, _, x, y = words[7 + 4 * i : 11 + 4 * i]
                image = int(number)
                if image < 0 or not np.isfinite([float(x), float(y)]).all():
                    raise ValueError(f"an observation of image {image} at {x} {y}")
                track.append((image, len(keypoints[image])))
                keypoints[image].append((float(x), float(y)))
            xyz = np.array(words[:3], float)
            if not np.isfinite(xyz).all():
                raise ValueError("a point that is not finite")
            points.append((xyz, np.array(words[3:6], np.uint8), track))
        model = pycolmap.Reconstruction()
        for index, view in enumerate(views):
            _add_image(model, index + 1, view, cameras[view[0]], keypoints[index])
        for xyz, color, track in points:
            elements = pycolmap.Track([pycolmap.TrackElement(i + 1, j) for i, j in track])
            model.add_point3D(xyz, elements, color)
    except (*PARSER_ERRORS, MemoryError, StopIteration) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DiskHlocError(f"{path} is truncated or no NVM file: {reason}") from error
    return model


def _add_image(
    model: pycolmap.Reconstruction,
    image_id: int,
    view: list[str],
    camera: pycolmap.Camera,
    keypoints: list[tuple[float, float]],
) -> None:
    name, _, *numbers = view
    w, x, y, z, *position = (float(number) for number in numbers[:7])
    norm = float(np.linalg.norm([w, x, y, z]))
    if not np.isfinite(np.array([norm, *position])).all() or norm == 0:
        raise ValueError(f"the pose of {name}")
    rotation = pycolmap.Rotation3d(np.array([x, y, z, w]) / np.linalg.norm([x, y, z, w]))
    pose = pycolmap.Rigid3d(rotation, -rotation.matrix() @ np.array(position))
    camera.camera_id = image_id
    center = np.array([camera.principal_point_x, camera.principal_point_y])
    from_center = np.array(keypoints, float).reshape(-1, 2)
    xy = center + from_center
    if hasattr(model, "add_image_with_trivial_frame"):
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name, xy, camera_id=image_id, image_id=image_id)
        model.add_image_with_trivial_frame(image, pose)
    else:  # pycolmap 3.10 and 3.11 know no rigs
        model.add_camera(camera)
        model.add_image(pycolmap.Image(name, xy, pose, image_id, image_id))
        model.register_image(image_id)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield line
    except (OSError, UnicodeDecodeError) as error:
        raise DiskHlocError(f"cannot read the model {path}: {error}") from error
