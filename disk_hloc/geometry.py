"""Formulas of cameras and poses, each in one place; numpy alone.

``a_from_b`` takes points from frame b to frame a. Cameras look along z, with x right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

# A numpy array or a torch tensor: training computes the same on a GPU.
Array = TypeVar("Array", bound=Any)

# Relative to the matrix: a line shorter than this is that of an epipole.
_SHORTEST_LINE = 1e-12


@dataclass(frozen=True)
class Pose:
    """A rigid ``cam_from_world``.

    Attributes:
        quaternion: (4,) w, x, y, z of unit length.
        translation: (3,) in metres.
    """

    quaternion: np.ndarray
    translation: np.ndarray

    @property
    def rotation(self) -> np.ndarray:
        """The (3, 3) rotation matrix of cam_from_world."""
        w, x, y, z = self.quaternion
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    @property
    def center(self) -> np.ndarray:
        """The (3,) centre of the camera in the world, in metres."""
        return -self.rotation.T @ self.translation


def relative_pose(pose0: Pose, pose1: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Return the (3, 3) rotation and (3,) translation of ``cam1_from_cam0``."""
    rotation = pose1.rotation @ pose0.rotation.T
    return rotation, pose1.translation - rotation @ pose0.translation


def essential_matrix(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the essential matrix of a relative pose.

    Args:
        rotation: (3, 3) of ``cam1_from_cam0``.
        translation: (3,) of ``cam1_from_cam0``.

    Returns:
        (3, 3): x1 E x0 = 0 for the rays of one point in both cameras.
    """
    x, y, z = translation
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation


def epipolar_lines(points0: Array, points1: Array, matrix: Array) -> tuple[Array, Array]:
    """Return the epipolar lines of points of two images, in the other image each.

    Args:
        points0: (N, 2) points of the first image: pixels with a fundamental matrix, or points on
            the plane z = 1 with an essential matrix.
        points1: (M, 2) points of the second image.
        matrix: (3, 3) of the two images.

    Returns:
        (M, 3) lines in the first image and (N, 3) lines in the second, as a x + b y + c = 0.
    """
    return points1 @ matrix[:2] + matrix[2], points0 @ matrix[:, :2].T + matrix[:, 2]


def line_lengths(lines: Array, matrix: Array) -> Array:
    """Return the (N,) lengths of the normals of (N, 3) epipolar lines, by which distances scale.

    The line of an epipole vanishes; every point lies on it. Its length is small, not 0, so that
    distances from it are 0. Where the matrix vanishes, since two cameras are at one place, lengths
    are 0 and distances NaN.
    """
    shortest = _SHORTEST_LINE * (matrix**2).sum() ** 0.5
    return ((lines[:, :2] ** 2).sum(-1) ** 0.5).clip(shortest)


def epipolar_distances(points0: Array, points1: Array, matrix: Array) -> tuple[Array, Array]:
    """Return how far matched points are from each other's epipolar lines.

    Args:
        points0: (K, 2) points of the first image, as of :func:`epipolar_lines`.
        points1: (K, 2) points of the second image, in the same order.
        matrix: (3, 3) essential or fundamental matrix.

    Returns:
        (K,) in the first image and (K,) in the second, in the unit of the points; NaN where a
        point is NaN, or where the matrix is 0.
    """
    lines0, lines1 = epipolar_lines(points0, points1, matrix)
    residual = abs((points1 * lines1[:, :2]).sum(-1) + lines1[:, 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        return residual / line_lengths(lines0, matrix), residual / line_lengths(lines1, matrix)


def epipolar_errors(
    rays0: np.ndarray,
    jacobians0: np.ndarray,
    rays1: np.ndarray,
    jacobians1: np.ndarray,
    essential: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many pixels matched keypoints are from each other's epipolar curves.

    A ray may point anywhere, also backwards. Its distance is that to first order: the product of
    the ray with the normal of the epipolar plane, by the change of that product with the pixel. On
    the plane z = 1 it is the distance from the epipolar line.

    Args:
        rays0: (K, 3) in the frame of the first camera.
        jacobians0: (K, 3, 2) or (1, 3, 2), the change of the rays with x and y, per pixel.
        rays1, jacobians1: those of the matches, in the frame of the second camera.
        essential: (3, 3) matrix of the two cameras.

    Returns:
        (K,) pixels in the first image and (K,) in the second; NaN where a ray is NaN, or where the
        matrix is 0.
    """
    normals0, normals1 = rays1 @ essential, rays0 @ essential.T
    shortest = _SHORTEST_LINE * np.linalg.norm(essential)
    errors = []
    for rays, jacobians, normals in (
        (rays0, jacobians0, normals0),
        (rays1, jacobians1, normals1),
    ):
        gradients = (normals[:, None] @ jacobians)[:, 0]
        # At an epipole, where the gradient vanishes, the distance is 0.
        scale = np.linalg.norm(jacobians, axis=(1, 2))
        lengths = np.linalg.norm(gradients, axis=1).clip(shortest * scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors.append(np.abs((rays * normals).sum(axis=1)) / lengths)
    return errors[0], errors[1]


def sampson_distances(
    points0: np.ndarray, points1: np.ndarray, fundamental: np.ndarray
) -> np.ndarray:
    """Return the distances of matched points from an epipolar geometry, to first order.

    Args:
        points0, points1: (N, 2) points in pixels.
        fundamental: (3, 3) with ``x1^T F x0 = 0``.

    Returns:
        (N,) Sampson distances in pixels (Hartley and Zisserman, "Multiple View Geometry",
        section 11.4.3).
    """
    # By coordinates: sums over rows of two are several times as slow.
    x, y = points1.T
    a1, b1, c1 = fundamental[:, :2] @ points0.T + fundamental[:, 2:]
    a0, b0 = fundamental[:2, :2].T @ points1.T + fundamental[2, :2, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(x * a1 + y * b1 + c1) / np.sqrt(a0 * a0 + b0 * b0 + a1 * a1 + b1 * b1)


def rotation_angle(rotation: np.ndarray) -> float:
    """Return the angle of a (3, 3) rotation matrix in degrees, exact also for small angles."""
    sine = np.linalg.norm(rotation - rotation.T) / (2 * np.sqrt(2))
    cosine = (np.trace(rotation) - 1) / 2
    return float(np.degrees(np.arctan2(sine, cosine)))


def angle_between(directions0: np.ndarray, directions1: np.ndarray) -> np.ndarray:
    """Return the angles between directions, exact also for small angles.

    Args:
        directions0: (..., 3), of any length.
        directions1: (..., 3), of any length.

    Returns:
        (...) degrees, from 0 to 180.
    """
    sine = np.linalg.norm(np.cross(directions0, directions1), axis=-1)
    cosine = (np.asarray(directions0) * directions1).sum(axis=-1)
    return np.degrees(np.arctan2(sine, cosine))


def align(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the similarity that brings points onto others with the least squared distance.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. (pycolmap has it from 3.11 on only.)

    Args:
        source: (N, 3).
        target: (N, 3), in the same order.

    Returns:
        scale, (3, 3) rotation, (3,) translation of ``target_from_source``.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered_source, centered_target = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(centered_target.T @ centered_source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / (centered_source**2).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean
