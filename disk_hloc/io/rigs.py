"""Read calibrated rigs: photos, their cameras, and where each camera is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.geometry import Pose

from .colmap import require_camera
from .names import require_relative
from .text import read_text


@dataclass(frozen=True)
class RigPhoto:
    """A photo of a rig.

    Attributes:
        name: of the photo, relative to the folder of the photos.
        camera: COLMAP's model and parameters in pixels, ``"PINHOLE fx,fy,cx,cy"``.
        cam_from_rig: where its camera is in the rig, in units of the map.
    """

    name: str
    camera: str
    cam_from_rig: Pose


def read_rig(path: Path) -> list[RigPhoto]:
    """Read a rig from JSON.

    A list of ``{"image": name, "camera": "PINHOLE fx,fy,cx,cy", "cam_from_rig": {"quaternion":
    [w, x, y, z], "translation": [x, y, z]}}``.

    Raises:
        DiskHlocError: the file cannot be read or has another form, or a name is repeated or points
            outside the folder of the photos.
    """
    try:
        content = json.loads(read_text(path, "the rig"))
        photos = [_photo(entry, f"{path}, photo {i + 1}") for i, entry in enumerate(content)]
    except PARSER_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"{path} is not a rig: {reason or type(error).__name__}; expected a list of "
            '{"image", "camera", "cam_from_rig": {"quaternion", "translation"}}'
        ) from error
    if not photos:
        raise DiskHlocError(f"the rig {path} has no photos")
    names = [photo.name for photo in photos]
    for name in names:
        if names.count(name) > 1:
            raise DiskHlocError(f"the rig {path} names {name} twice")
    return photos


def _photo(entry: Any, where: str) -> RigPhoto:
    pose = entry["cam_from_rig"]
    quaternion = np.array(pose["quaternion"], np.float64)
    translation = np.array(pose["translation"], np.float64)
    if quaternion.shape != (4,) or translation.shape != (3,):
        raise ValueError("a pose has four numbers of a quaternion and three of a translation")
    norm = np.linalg.norm(quaternion)
    if not np.isfinite([norm, *quaternion, *translation]).all() or norm == 0:
        raise ValueError("a pose has numbers that are impossible")
    name, camera = entry["image"], entry["camera"]
    if not isinstance(name, str) or not isinstance(camera, str):
        raise ValueError("image and camera are texts")
    require_camera(camera)
    return RigPhoto(require_relative(name, where), camera, Pose(quaternion / norm, translation))
