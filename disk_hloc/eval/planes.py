"""Measures of keypoints and matches of two photos of a plane, with a known homography.

- The matching accuracy (MMA) is D2-Net's (CVPR 2019, section 5.1; DISK's section 4.1): the share
  of matches that are within a threshold of where the homography puts them. Without matches it is 0.
- The corner error is SuperPoint's (DeTone, Malisiewicz, Rabinovich, CVPRW 2018): the mean distance
  of the first photo's corners under the estimated homography (OpenCV's RANSAC) and the true one.
- Repeatability is SuperPoint's: of the keypoints of both photos that the other photo sees, the
  share that has a keypoint of the other within 3 px.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from scipy.spatial import KDTree

THRESHOLDS_PX = tuple(range(1, 11))
REPEATED_WITHIN_PX = 3.0
RANSAC_THRESHOLD_PX = 3.0


def transfer(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where a homography takes points.

    Args:
        homography: (3, 3).
        points: (N, 2) pixels.

    Returns:
        (N, 2) pixels, infinite for a point that goes to the horizon or beyond it.
    """
    moved = np.column_stack([points, np.ones(len(points))]) @ (homography / homography[2, 2]).T
    w = np.where(moved[:, 2:] > 0, moved[:, 2:], np.nan)
    return np.nan_to_num(moved[:, :2] / w, nan=np.inf)


def matching_accuracy(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray
) -> np.ndarray:
    """Return the share of matches within each of the :data:`THRESHOLDS_PX`, in the second photo.

    Args:
        points0: (K, 2) pixels.
        points1: (K, 2) pixels, in the same order.
        homography: (3, 3), ``1_from_0``.

    Returns:
        (T,) 0 to 1; 0 without matches.
    """
    if len(points0) == 0:
        return np.zeros(len(THRESHOLDS_PX))
    errors = np.linalg.norm(transfer(homography, points0) - points1, axis=1)
    return (errors[:, None] <= np.array(THRESHOLDS_PX)).mean(axis=0)


def corner_error(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, size: Iterable[int]
) -> float:
    """Return the mean distance of the corners under the homography of the matches and the true one.

    Args:
        points0: (K, 2) pixels.
        points1: (K, 2) pixels, in the same order.
        homography: (3, 3), the true ``1_from_0``.
        size: width and height of the first photo in pixels.

    Returns:
        Pixels in the second photo, infinite if the matches give no homography.
    """
    if len(points0) < 4:
        return float("inf")
    estimated, _ = cv2.findHomography(points0, points1, cv2.RANSAC, RANSAC_THRESHOLD_PX)
    if estimated is None:
        return float("inf")
    width, height = size
    right, bottom = width - 1.0, height - 1.0
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    error = np.linalg.norm(transfer(estimated, corners) - transfer(homography, corners), axis=1)
    return float(np.nan_to_num(error.mean(), nan=np.inf))


def repeatability(
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    size0: Iterable[int],
    size1: Iterable[int],
    within: float = REPEATED_WITHIN_PX,
) -> float:
    """Return the share of the keypoints in common view that the other photo has too.

    Args:
        keypoints0: (N, 2) pixels.
        keypoints1: (M, 2) pixels.
        homography: (3, 3), ``1_from_0``.
        size0, size1: width and height in pixels.
        within: the greatest distance in pixels, in the photo that keypoints are taken to.

    Returns:
        0 to 1, NaN where no keypoint is in common view.
    """
    seen = found = 0
    for source, target, matrix, size in (
        (keypoints0, keypoints1, homography, size1),
        (keypoints1, keypoints0, np.linalg.inv(homography), size0),
    ):
        moved = transfer(matrix, source)
        moved = moved[inside(moved, size)]
        seen += len(moved)
        if len(moved) and len(target):
            found += int((KDTree(target).query(moved)[0] <= within).sum())
    return found / seen if seen else float("nan")


def inside(points: np.ndarray, size: Iterable[int]) -> np.ndarray:
    """Return whether (N, 2) points are within a photo of this width and height: (N,) bool."""
    return np.all((points >= -0.5) & (points < np.array([*size]) - 0.5), axis=1)
