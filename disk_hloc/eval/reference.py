"""Known poses and cameras of photos, which results are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.geometry import Pose
from disk_hloc.io.benchmarks.calibration import read_calibrations
from disk_hloc.io.colmap import camera_object
from disk_hloc.io.hloc.poses import read_poses


@dataclass(frozen=True)
class Reference:
    """Known poses and cameras of photos.

    Attributes:
        names: the photos.
        poses: image name -> known pose, of some of the photos; empty where no poses are known.
        camera: COLMAP's model of all photos, as ``"PINHOLE fx,fy,cx,cy"`` or the model's name
            alone; None if it is unknown.
        cameras: image name -> such a camera, where each photo has its own; else None.
    """

    names: Sequence[str]
    poses: dict[str, Pose]
    camera: str | None
    cameras: dict[str, str] | None

    def known_cameras(self) -> dict[str, pycolmap.Camera] | None:
        """Return image name -> camera, without its size, or None where parameters are unknown."""
        texts = self.cameras
        if texts is None and self.camera is not None and len(self.camera.split()) > 1:
            texts = dict.fromkeys(self.names, self.camera)
        if texts is None:
            return None
        # Relative poses do not depend on the photos' sizes.
        return {name: camera_object(text, 1, 1) for name, text in texts.items()}


def read_reference(poses: Path | None, camera: str | None, names: Sequence[str]) -> Reference:
    """Read known poses and cameras.

    Args:
        poses: a poses file (:mod:`disk_hloc.io.hloc.poses`), or a folder of the Image Matching
            Challenge's calibration files, which give each image its camera too; None if no poses
            are known.
        camera: the camera of all photos, as :class:`Reference` has it.
        names: the photos.

    Raises:
        DiskHlocError: the poses cannot be read or are those of fewer than two of the photos, a
            photo has no calibration file, or a camera is given twice.
    """
    if poses is None:
        return Reference(names, {}, camera, None)
    if poses.is_dir():
        if camera is not None:
            raise DiskHlocError(f"{poses} has a camera for each image: leave --camera out")
        cameras, known = read_calibrations(poses, names)
        return Reference(names, known, None, cameras)
    known = {name: pose for name, pose in read_poses(poses).items() if name in names}
    if len(known) < 2:
        raise DiskHlocError(
            f"{poses} has poses of {len(known)} of the photos, which are named "
            f"{listing(list(names))}: at least two are needed"
        )
    return Reference(names, known, camera, None)
