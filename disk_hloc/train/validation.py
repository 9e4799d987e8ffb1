"""Validate as DISK's release: keypoints are local maxima, matches are mutual nearest neighbours.

A match is correct if both keypoints are within a threshold of the other's epipolar line. PoseLib
estimates the relative pose of each pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import angle_between, rotation_angle
from disk_hloc.models.disk_network.keypoints import find_released_keypoints

from .data import Batch
from .features import Detector, Features, split
from .geometry import View, matched_epipolar_distances, relative_pose
from .matching import mutual_nearest

# As in the release, no pose is estimated from fewer matches.
MIN_MATCHES = 10
# Rotation and translation errors of a pair without a pose, as in the release; they exceed all
# thresholds.
FAILED_ERRORS_DEGREES = (89.95, 179.95)


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


class Match(NamedTuple):
    """The matches of a pair.

    Attributes:
        indices: (K, 2) into the keypoints of both images.
        error: (K,) the larger of the two distances from epipolar lines, in pixels.
    """

    indices: Tensor
    error: Tensor


def detector(conf: Mapping[str, Any]) -> Detector:
    """Return the function that finds keypoints in validation.

    Args:
        conf: the settings' ``validation``.
    """
    return partial(
        find_released_keypoints,
        max_keypoints=conf["max_keypoints"],
        window_size=conf["nms_window_size"],
    )


def validate(
    features: list[Features], batch: Batch, conf: Mapping[str, Any]
) -> tuple[list[Figures], list[list[Match]]]:
    """Match and evaluate all pairs of each tuple of a batch.

    Args:
        features: features of the batch's images.
        batch: the images and their cameras.
        conf: the settings.

    Returns:
        The figures of the pairs, tuple by tuple; and the matches of each tuple's pairs. Pairs are
        in the order of ``itertools.combinations``.
    """
    figures, matches = [], []
    per_tuple = len(batch.views[0])
    for of_tuple, views in zip(split(features, per_tuple), batch.views, strict=True):
        of_pairs = []
        for i, j in combinations(range(per_tuple), 2):
            match = match_pair(of_tuple[i], of_tuple[j], views[i], views[j])
            figures.append(pair_figures(of_tuple[i], of_tuple[j], match, views[i], views[j], conf))
            of_pairs.append(match)
        matches.append(of_pairs)
    return figures, matches


def match_pair(features1: Features, features2: Features, view1: View, view2: View) -> Match:
    """Match mutual nearest neighbours, and measure their distances from epipolar lines."""
    index = mutual_nearest(features1.descriptors, features2.descriptors)
    xy1, xy2 = features1.xy[index[:, 0]].double(), features2.xy[index[:, 1]].double()
    return Match(index, torch.maximum(*matched_epipolar_distances(xy1, xy2, view1, view2)))


def pair_figures(
    features1: Features,
    features2: Features,
    match: Match,
    view1: View,
    view2: View,
    conf: Mapping[str, Any],
) -> Figures:
    """Compute the figures of one pair; ``conf`` are the settings."""
    reward, validation = conf["reward"], conf["validation"]
    n_kps = len(features1.xy) + len(features2.xy)
    n_pairs = len(match.indices)
    right = int((match.error < reward["threshold"]).sum())
    earned = reward["true_positive"] * right + reward["false_positive"] * (n_pairs - right)
    xy1, xy2 = (
        one.xy[match.indices[:, k]].double().cpu().numpy()
        for k, one in enumerate((features1, features2))
    )
    return Figures(
        n_kps,
        n_pairs,
        right,
        n_pairs - right,
        earned + validation["keypoint"] * n_kps,
        right / (n_pairs + 1),
        *pose_figures(
            xy1,
            xy2,
            view1,
            view2,
            validation["max_epipolar_error"],
            validation["max_iterations"],
        ),
    )


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
    try:
        import poselib
    except ImportError as error:
        raise DiskHlocError("PoseLib is not installed: pip install 'disk_hloc[train]'") from error
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


def _camera(view: View) -> dict[str, object]:
    """Return PoseLib's camera, with the origin of the view's pixels."""
    matrix = view.matrix.cpu().numpy()
    return {
        "model": "PINHOLE",
        "width": 1,
        "height": 1,
        "params": [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]],
    }
