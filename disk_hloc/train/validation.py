"""Validation as DISK's release does it: features by their maxima, matches by mutual neighbours.

A match is right if both keypoints are within a threshold of the other's epipolar line. The
relative pose of each pair is estimated by PoseLib.
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
from .geometry import View, matched_epipolar_distances, relative_pose
from .matching import mutual_nearest
from .network import Detector, Features, split

# The release's: with fewer matches no pose is looked for.
LEAST_MATCHES = 10
# Errors in degrees of a pair without a pose; the release's, beyond all that is counted.
FAILED = (89.95, 179.95)


class Figures(NamedTuple):
    """Figures of a pair of images.

    Attributes:
        n_kps: keypoints of both.
        n_pairs: matches.
        tp: those that agree with the cameras.
        fp: the others.
        reward: of all, as configs/train.yaml has it for validation.
        precision: tp / (n_pairs + 1), the release's.
        rotation_error: degrees.
        translation_error: of its direction, degrees.
        n_inliers: of the pose.
        success: 1 if there is a pose.
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
        error: (K,) pixels, the greater of the two distances from epipolar lines.
    """

    indices: Tensor
    error: Tensor


def detector(conf: Mapping[str, Any]) -> Detector:
    """What finds keypoints in validation; ``conf`` is the settings' ``validation``."""
    return partial(
        find_released_keypoints,
        max_keypoints=conf["max_keypoints"],
        window_size=conf["nms_window_size"],
    )


def validate(
    features: list[Features], batch: Batch, conf: Mapping[str, Any]
) -> tuple[list[Figures], list[list[Match]]]:
    """Match and judge all pairs of each tuple of a batch.

    Args:
        features: of the batch's images.
        batch: the same images.
        conf: the settings.

    Returns:
        Figures of the pairs, tuple by tuple; and each tuple's matches, of the pairs in the order
        of ``itertools.combinations``.
    """
    figures, matches = [], []
    per_tuple = len(batch.views[0])
    for of_tuple, views in zip(split(features, per_tuple), batch.views, strict=True):
        of_pairs = []
        for i, j in combinations(range(per_tuple), 2):
            match = match_pair(of_tuple[i], of_tuple[j], views[i], views[j])
            figures.append(judge(of_tuple[i], of_tuple[j], match, views[i], views[j], conf))
            of_pairs.append(match)
        matches.append(of_pairs)
    return figures, matches


def match_pair(features1: Features, features2: Features, view1: View, view2: View) -> Match:
    """Mutual nearest neighbours, and how far they are from epipolar lines."""
    index = mutual_nearest(features1.descriptors, features2.descriptors)
    xy1, xy2 = features1.xy[index[:, 0]].double(), features2.xy[index[:, 1]].double()
    return Match(index, torch.maximum(*matched_epipolar_distances(xy1, xy2, view1, view2)))


def judge(
    features1: Features,
    features2: Features,
    match: Match,
    view1: View,
    view2: View,
    conf: Mapping[str, Any],
) -> Figures:
    """The figures of one pair; ``conf`` is the settings."""
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
    """Estimate the relative pose of matches and compare it with the true one.

    The direction of the translation is judged with its sign, as in the release; the rotation's
    error is its angle, of which the release logs half.

    Args:
        xy1, xy2: (K, 2) float64 pixels.
        view1, view2: the true cameras.
        max_epipolar_error: of an inlier, in pixels.
        max_iterations: RANSAC's.

    Returns:
        Errors of rotation and translation in degrees, the number of inliers, and 1; or
        :data:`FAILED`, 0 and 0.

    Raises:
        DiskHlocError: PoseLib is not installed.
    """
    try:
        import poselib
    except ImportError as error:
        raise DiskHlocError("PoseLib is not installed: pip install 'disk_hloc[train]'") from error
    if len(xy1) < LEAST_MATCHES:
        return *FAILED, 0, 0
    pose, info = poselib.estimate_relative_pose(
        xy1,
        xy2,
        _camera(view1),
        _camera(view2),
        {"max_epipolar_error": max_epipolar_error, "max_iterations": max_iterations},
        {},
    )
    if not info["num_inliers"]:
        return *FAILED, 0, 0
    rotation, translation = (one.cpu().numpy() for one in relative_pose(view1, view2))
    direction = float(angle_between(np.asarray(pose.t), translation))
    turned = rotation_angle(np.asarray(pose.R) @ rotation.T)
    return turned, direction, float(info["num_inliers"]), 1.0


def _camera(view: View) -> dict[str, object]:
    """PoseLib's camera; where its pixels have (0, 0) is where the view's have."""
    matrix = view.matrix.cpu().numpy()
    return {
        "model": "PINHOLE",
        "width": 1,
        "height": 1,
        "params": [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]],
    }
