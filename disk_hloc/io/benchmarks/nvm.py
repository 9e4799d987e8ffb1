"""VisualSFM's NVM models, the format of Aachen Day-Night v1."""

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
    """Read a model, in which each image has its own camera.

    NVM stores the centre of a camera where COLMAP stores a translation. Its keypoints are relative
    to the principal point, and only triangulated ones are stored.

    Args:
        path: the NVM file. Its focal lengths and distortions are not used.
        intrinsics_path: a list of ``name MODEL width height parameters...``, as for queries.

    Raises:
        DiskHlocError: a file cannot be read or has another format, or an image has no intrinsics.
    """
    cameras = read_queries(intrinsics_path)
    lines = _lines(path)
    try:
        if not next(lines).startswith("NVM_V3"):
            raise DiskHlocError(f"{path} is not an NVM file: it does not start with NVM_V3")
        views = [next(lines).split() for _ in range(int(next(lines)))]
        for view in views:
            # The names of the list are relative, so this names the reason.
            require_relative(view[0], path)
        missing = [view[0] for view in views if view[0] not in cameras]
        if missing:
            raise DiskHlocError(
                f"{intrinsics_path} has no intrinsics of {missing[0]}, an image of {path}"
            )
        points = []
        keypoints: list[list[tuple[float, float]]] = [[] for _ in views]
        for _ in tqdm(range(int(next(lines))), desc="Read NVM", unit="point"):
            words = next(lines).split()
            track = []
            for i in range(int(words[6])):
                number, _, x, y = words[7 + 4 * i : 11 + 4 * i]
                image = int(number)
                if image < 0 or not np.isfinite([float(x), float(y)]).all():
                    raise ValueError(f"impossible observation of image {image} at {x} {y}")
                track.append((image, len(keypoints[image])))
                keypoints[image].append((float(x), float(y)))
            xyz = np.array(words[:3], float)
            if not np.isfinite(xyz).all():
                raise ValueError("a point is not finite")
            points.append((xyz, np.array(words[3:6], np.uint8), track))
        model = pycolmap.Reconstruction()
        for index, view in enumerate(views):
            _add_image(model, index + 1, view, cameras[view[0]], keypoints[index])
        for xyz, color, track in points:
            elements = pycolmap.Track([pycolmap.TrackElement(i + 1, j) for i, j in track])
            model.add_point3D(xyz, elements, color)
    except (*PARSER_ERRORS, MemoryError, StopIteration) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DiskHlocError(f"{path} is truncated or not an NVM file: {reason}") from error
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
        raise ValueError(f"impossible pose of {name}")
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
    else:  # pycolmap 3.10 and 3.11 have no rigs
        model.add_camera(camera)
        model.add_image(pycolmap.Image(name, xy, pose, image_id, image_id))
        model.register_image(image_id)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if line.strip():
                    yield line
    except (OSError, UnicodeDecodeError) as error:
        raise DiskHlocError(f"cannot read the model {path}: {error}") from error
