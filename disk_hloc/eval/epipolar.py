"""How far matches are from the epipolar lines of known poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.geometry import Pose, epipolar_distances, essential_matrix, relative_pose
from disk_hloc.io.colmap import camera_rays
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading

from .stereo import matched_points


def match_errors(
    feature_path: Path,
    match_path: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera],
    poses: Mapping[str, Pose],
) -> list[np.ndarray]:
    """Return the distances of matches from the epipolar lines of known poses.

    Args:
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs; all their images have a camera and a pose.
        cameras: image name -> camera.
        poses: image name -> pose.

    Returns:
        For each pair (K,) pixels, as :func:`epipolar_errors`; (0,) if the pair is not matched.
    """
    errors = []
    with reading(feature_path) as features, reading(match_path) as matches:
        for name0, name1 in pairs:
            points = matched_points(features, matches, (name0, name1))
            if points is None:
                errors.append(np.zeros(0))
                continue
            relative = relative_pose(poses[name0], poses[name1])
            errors.append(epipolar_errors(*points, cameras[name0], cameras[name1], *relative))
    return errors


def epipolar_errors(
    points0: np.ndarray,
    points1: np.ndarray,
    camera0: pycolmap.Camera,
    camera1: pycolmap.Camera,
    rotation: np.ndarray,
    translation: np.ndarray,
) -> np.ndarray:
    """Return the distances of matched points from each other's epipolar lines.

    They are measured on the plane z = 1, without distortion, and scaled to pixels by the mean focal
    length of the photo.

    Args:
        points0: (K, 2) pixels, COLMAP's: (0, 0) at the corner of the image.
        points1: (K, 2) pixels of the second image, in the same order.
        camera0, camera1: the cameras.
        rotation: (3, 3) of cam1_from_cam0.
        translation: (3,) of cam1_from_cam0, of any length but 0.

    Returns:
        (K,) pixels, the greater of the two distances of a match.
    """
    essential = essential_matrix(rotation, translation)
    distances = epipolar_distances(
        camera_rays(camera0, points0), camera_rays(camera1, points1), essential
    )
    focals = camera0.mean_focal_length(), camera1.mean_focal_length()
    return np.maximum(distances[0] * focals[0], distances[1] * focals[1])
