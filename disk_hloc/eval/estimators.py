"""The libraries that estimate relative poses from matches."""

from __future__ import annotations

import importlib.util

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError

# The greatest distance of an inlier from its epipolar line.
THRESHOLD_PX = 1.0
# The five-point solver needs this many matches.
LEAST_MATCHES = 5


def estimator() -> str:
    """Return the library to use: ``poselib`` where it is installed, else ``pycolmap``."""
    return "poselib" if importlib.util.find_spec("poselib") else "pycolmap"


def estimate_relative_pose(
    points0: np.ndarray,
    points1: np.ndarray,
    camera0: pycolmap.Camera,
    camera1: pycolmap.Camera,
    threshold: float = THRESHOLD_PX,
    library: str | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimate a relative pose with RANSAC; the same points give the same pose.

    Args:
        points0: (K, 2) pixels, COLMAP's: (0, 0) at the corner of the image.
        points1: (K, 2) pixels of the second image, in the same order.
        camera0, camera1: the cameras.
        threshold: the greatest distance of an inlier from its epipolar line, in pixels.
        library: ``poselib`` or ``pycolmap``; None takes :func:`estimator`.

    Returns:
        (3, 3) rotation and (3,) direction of the translation of ``cam1_from_cam0``; None if the
        points give no pose.

    Raises:
        DiskHlocError: an unknown library, or one that is not installed.
    """
    points0, points1 = (np.asarray(points, np.float64) for points in (points0, points1))
    if len(points0) < LEAST_MATCHES:
        return None
    library = library or estimator()
    if library not in ("poselib", "pycolmap"):
        raise DiskHlocError(f"no estimator is called {library!r}; known: poselib, pycolmap")
    if library == "poselib":
        try:
            import poselib
        except ImportError as error:
            raise DiskHlocError("PoseLib is not installed: pip install poselib") from error

        pose, info = poselib.estimate_relative_pose(
            points0,
            points1,
            _poselib_camera(camera0),
            _poselib_camera(camera1),
            {"max_epipolar_error": threshold},
            {},
        )
        return (np.asarray(pose.R), np.asarray(pose.t)) if info["num_inliers"] else None
    pycolmap.set_random_seed(0)
    found = pycolmap.estimate_essential_matrix(
        points0, points1, camera0, camera1, {"max_error": threshold}
    )
    if found is None:
        return None
    pose = found["cam2_from_cam1"]
    return pose.rotation.matrix(), np.asarray(pose.translation)


def _poselib_camera(camera: pycolmap.Camera) -> dict[str, object]:
    return {
        "model": str(camera.model).rpartition(".")[2],
        "width": camera.width,
        "height": camera.height,
        "params": list(camera.params),
    }
