"""A pinhole camera and rigid poses, in COLMAP's conventions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """COLMAP's PINHOLE camera in pixels, with (0.5, 0.5) at the centre of the top-left pixel."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def from_size(cls, width: int, height: int, focal: float = 0.75) -> Camera:
        """Return a camera with a central principal point; `focal` is a share of the longer side."""
        pixels = focal * max(width, height)
        return cls(width, height, pixels, pixels, width / 2, height / 2)

    @property
    def matrix(self) -> Array:
        """The calibration matrix, (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)


def project(points: ArrayLike, camera: Camera, cam_from_world: ArrayLike) -> tuple[Array, Array]:
    """Project world points to pixels.

    Args:
        points: (N, 3) in metres.
        camera: the camera.
        cam_from_world: (3, 4) pose in metres.

    Returns:
        (N, 2) float64 pixels, x right and y down with (0.5, 0.5) at the centre of the top-left
        pixel; and (N,) float64 z-depths in metres. The pixel of a point that is not in front of the
        camera (depth <= 0) is undefined.
    """
    pose = np.asarray(cam_from_world, dtype=np.float64)
    in_cam = np.asarray(points, dtype=np.float64) @ pose[:, :3].T + pose[:, 3]
    depth = in_cam[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = in_cam[:, :2] / depth[:, None]
    return pixels * (camera.fx, camera.fy) + (camera.cx, camera.cy), depth


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> Array:
    """Return the pose of an upright camera at `eye` that looks at `target`.

    Returns:
        cam_from_world, (3, 4) float64, with x right, y down, z forward.

    Raises:
        ValueError: the viewing direction is undefined or parallel to `up`.
    """
    centre = np.asarray(eye, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - centre
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    if np.linalg.norm(right) < 1e-9 * max(1.0, float(np.linalg.norm(forward))):
        raise ValueError("look_at needs a target away from the eye and not along the up direction")
    forward = forward / np.linalg.norm(forward)
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.column_stack([rotation, -rotation @ centre])


def quaternion(rotation: ArrayLike) -> Array:
    """Return the quaternion (4,) float64 w, x, y, z with w >= 0 of a (3, 3) rotation matrix."""
    r = np.asarray(rotation, dtype=np.float64)
    # The eigenvector of Bar-Itzhack's matrix has no special cases, unlike the trace formula.
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], 0, 0, 0],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0, 0],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0],
            [
                r[1, 0] - r[0, 1],
                r[0, 2] + r[2, 0],
                r[1, 2] + r[2, 1],
                r[2, 2] - r[0, 0] - r[1, 1],
            ],
        ]
    )
    wxyz = np.linalg.eigh(k, UPLO="L")[1][:, -1]
    return -wxyz if wxyz[0] < 0 else wxyz
