"""The figures of a pair of images in validation, and what PoseLib estimates from its matches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import angle_between, rotation_angle

from .geometry import View, relative_pose

# As in the release, no pose is estimated from fewer matches.
MIN_MATCHES = 10
# Rotation and translation errors of a pair without a pose, as in the release; they exceed all
# thresholds.
FAILED_ERRORS_DEGREES = (89.95, 179.95)
# The largest error of a homography, and that of a pair without one; it exceeds all thresholds.
FAILED_ERROR_PX = 1000.0


class Figures(NamedTuple):
    """Figures of a pair of images.

    Attributes:
        n_kps: number of keypoints in both images.
        n_pairs: number of matches.
        tp: number of matches that agree with the cameras.
        fp: number of the other matches.
        reward: reward of all matches and keypoints, see ``validation`` in configs/train.yaml.
        precision: tp / (n_pairs + 1), as in the release.
        rotation_error: error in degrees.
        translation_error: error of the direction in degrees.
        n_inliers: number of inliers of the pose.
        success: 1 if a pose was found, otherwise 0.
    """

    n_kps: float
    n_pairs: float
    tp: float
    fp: float
    reward: float
    precision: float
    rotation_error: float
    translation_error: float
    n_inliers: float
    success: float


class HomographyFigures(NamedTuple):
    """Figures of two views of a photo under homographies.

    Attributes:
        n_kps, n_pairs, tp, fp, reward, precision: see :class:`Figures`.
        corner_error: mean error of the first view's corners in the second in pixels, by the
            estimated homography.
        n_inliers: number of inliers of the homography.
        success: 1 if a homography was found, otherwise 0.
    """

    n_kps: float
    n_pairs: float
    tp: float
    fp: float
    reward: float
    precision: float
    corner_error: float
    n_inliers: float
    success: float


AnyFigures = Figures | HomographyFigures


def pose_figures(
    xy1: np.ndarray,
    xy2: np.ndarray,
    view1: View,
    view2: View,
    max_epipolar_error: float,
    max_iterations: int,
) -> tuple[float, float, float, float]:
    """Estimate a relative pose from matches and compare it with the true one.

    The sign of the translation's direction counts, as in the release. The error of the rotation is
    its angle, of which the release logs half.

    Args:
        xy1, xy2: (K, 2) float64 pixels.
        view1, view2: the true cameras.
        max_epipolar_error: largest epipolar error of an inlier in pixels.
        max_iterations: maximum number of RANSAC iterations.

    Returns:
        Errors of rotation and translation in degrees, the number of inliers, and 1; or
        :data:`FAILED_ERRORS_DEGREES`, 0 and 0 if no pose was found.

    Raises:
        DiskHlocError: PoseLib is not installed.
    """
    poselib = _poselib()
    if len(xy1) < MIN_MATCHES:
        return *FAILED_ERRORS_DEGREES, 0, 0
    pose, info = poselib.estimate_relative_pose(
        xy1,
        xy2,
        _camera(view1),
        _camera(view2),
        {"max_epipolar_error": max_epipolar_error, "max_iterations": max_iterations},
        {},
    )
    if not info["num_inliers"]:
        return *FAILED_ERRORS_DEGREES, 0, 0
    rotation, translation = (one.cpu().numpy() for one in relative_pose(view1, view2))
    direction = float(angle_between(np.asarray(pose.t), translation))
    turned = rotation_angle(np.asarray(pose.R) @ rotation.T)
    return turned, direction, float(info["num_inliers"]), 1.0


def homography_figures(
    xy1: np.ndarray,
    xy2: np.ndarray,
    view1: View,
    view2: View,
    size1: tuple[int, int],
    max_error: float,
    max_iterations: int,
) -> tuple[float, float, float]:
    """Estimate a homography from matches and compare it with the true one.

    Args:
        xy1, xy2: (K, 2) float64 pixels.
        view1, view2: the views, whose matrices are homographies of one photo.
        size1: width and height of the first view in pixels.
        max_error: largest error of an inlier in pixels.
        max_iterations: maximum number of RANSAC iterations.

    Returns:
        The mean error of the corners in pixels, the number of inliers, and 1; or
        :data:`FAILED_ERROR_PX`, 0 and 0 if no homography was found.

    Raises:
        DiskHlocError: PoseLib is not installed.
    """
    poselib = _poselib()
    if len(xy1) < MIN_MATCHES:
        return FAILED_ERROR_PX, 0, 0
    estimated, info = poselib.estimate_homography(
        xy1, xy2, {"max_reproj_error": max_error, "max_iterations": max_iterations}, {}
    )
    if not info["num_inliers"]:
        return FAILED_ERROR_PX, 0, 0
    true = view2.matrix.cpu().numpy() @ np.linalg.inv(view1.matrix.cpu().numpy())
    right, bottom = size1[0] - 1.0, size1[1] - 1.0
    corners = np.array([[0, 0, 1], [right, 0, 1], [right, bottom, 1], [0, bottom, 1]])
    found, expected = (
        projected[:, :2] / projected[:, 2:]
        for projected in (corners @ np.asarray(estimated).T, corners @ true.T)
    )
    error = float(np.linalg.norm(found - expected, axis=1).mean())
    return min(error, FAILED_ERROR_PX), float(info["num_inliers"]), 1.0


def _poselib() -> Any:
    try:
        import poselib
    except ImportError as error:
        raise DiskHlocError("PoseLib is not installed: pip install 'disk_hloc[train]'") from error
    return poselib


def _camera(view: View) -> dict[str, object]:
    """Return PoseLib's camera, with the origin of the view's pixels."""
    matrix = view.matrix.cpu().numpy()
    return {
        "model": "PINHOLE",
        "width": 1,
        "height": 1,
        "params": [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]],
    }
