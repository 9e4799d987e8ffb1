"""How precise a pose is, by the residuals of the keypoints that it was refined with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pycolmap

# Of COLMAP's Cauchy loss, in pixels.
LOSS_SCALE_PX = 1.0
# Differences for derivatives: relative to a point's distance, and to the focal length.
_STEP = 1e-5


class View(NamedTuple):
    """Keypoints of one photo and the points that they see.

    Attributes:
        cam_from_rig: where the photo is in its rig; the identity for a photo alone.
        camera: of the photo.
        keypoints: (N, 2) float64, COLMAP's: (0, 0) at the corner of the image.
        points: (N, 3) float64, that of each keypoint, in the world.
    """

    cam_from_rig: pycolmap.Rigid3d
    camera: pycolmap.Camera
    keypoints: np.ndarray
    points: np.ndarray


def of_pose(
    rig_from_world: pycolmap.Rigid3d, views: Sequence[View], refined_focal_length: bool = False
) -> np.ndarray | None:
    """Return the covariance of a pose that minimizes a Cauchy loss of its reprojection errors.

    That of regression by M-estimators: Huber, "Robust Statistics", 1981, section 7.6. The noise of
    keypoints is measured by the residuals. COLMAP's covariance takes it as one pixel, and has half
    the angles of turns.

    Args:
        rig_from_world: the pose; of a photo alone, its cam_from_world.
        views: the inliers.
        refined_focal_length: whether the focal length was refined with the pose.

    Returns:
        (6, 6) float64: a small turn of the rotation (three angles in radians, about the axes of the
        rig: ``exp(turn) @ rotation``), then the translation. None if the points do not determine
        the pose.
    """
    rotation, translation = rig_from_world.rotation.matrix(), rig_from_world.translation
    jacobians, squares = [], []
    for cam_from_rig, camera, keypoints, points in views:
        if not len(points):
            continue
        turned = points @ rotation.T
        in_cam = cam_from_rig * (turned + translation)
        by_cam = _derivatives(camera, in_cam) @ cam_from_rig.rotation.matrix()
        columns = [by_cam @ _cross(-turned), by_cam]
        if refined_focal_length:
            columns.append(_by_focal_length(camera, in_cam))
        jacobians.append(np.concatenate(columns, axis=2))
        squares.append(((_project(camera, in_cam) - keypoints) ** 2).sum(axis=1))
    if not jacobians:
        return None
    jacobian, square = np.concatenate(jacobians), np.concatenate(squares)
    num_params = jacobian.shape[2]
    freedom = 2 * len(square) - num_params
    flat = jacobian.reshape(-1, num_params)
    if freedom <= 0 or not np.isfinite(flat).all() or np.linalg.matrix_rank(flat) < num_params:
        return None
    # psi(r) = weight * r, whose mean derivative in two dimensions is weight squared.
    weight = 1 / (1 + square / LOSS_SCALE_PX**2)
    variance = (weight**2 * square).sum() / freedom / (weight**2).mean() ** 2
    covariance = variance * np.linalg.inv(flat.T @ flat)[:6, :6]
    return (covariance + covariance.T) / 2


def of_center(rotation: np.ndarray, translation: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the (3, 3) covariance of a camera's centre in the world.

    Args:
        rotation: (3, 3) of cam_from_world.
        translation: (3,) of cam_from_world.
        covariance: (6, 6) of :func:`of_pose`.
    """
    jacobian = -rotation.T @ np.concatenate([_cross(translation[None])[0], np.eye(3)], axis=1)
    center: np.ndarray = jacobian @ covariance @ jacobian.T
    return center


def _project(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    return np.asarray(camera.img_from_cam(points), np.float64).reshape(-1, 2)


def _derivatives(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    """Return the (N, 2, 3) derivatives of projections by points in the frame of the camera."""
    steps = _STEP * np.linalg.norm(points, axis=1, keepdims=True)
    columns = [
        (_project(camera, points + steps * axis) - _project(camera, points - steps * axis))
        / (2 * steps)
        for axis in np.eye(3)
    ]
    return np.stack(columns, axis=2)


def _by_focal_length(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    """Return the (N, 2, F) derivatives of projections by the focal lengths of the camera."""
    columns = []
    for index in camera.focal_length_idxs():
        step = _STEP * camera.params[index]
        ends = []
        for sign in (1, -1):
            changed = copy.deepcopy(camera)
            params = np.array(camera.params)
            params[index] += sign * step
            changed.params = params
            ends.append(_project(changed, points))
        columns.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(columns, axis=2)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """Return the (N, 3, 3) matrices of cross products with (N, 3) vectors."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    rows = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
    return np.moveaxis(rows, 2, 0)
