"""Validate as DISK's release: keypoints are local maxima, matches are mutual nearest neighbours.

A match is correct if both keypoints are within a threshold of the other's epipolar line. PoseLib
estimates the relative pose of each pair. Of two views of a photo under homographies, a match is
correct if both keypoints are within the threshold of where the homography takes the other, and
PoseLib estimates the homography.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disk_hloc.models.disk_network.keypoints import find_released_keypoints

from .data import Batch
from .features import Detector, Features, split
from .figures import (
    AnyFigures,
    Figures,
    HomographyFigures,
    homography_figures,
    pose_figures,
)
from .geometry import View, matched_epipolar_distances, transfer_distances, without_baseline
from .matching import mutual_nearest


class Match(NamedTuple):
    """The matches of a pair.

    Attributes:
        indices: (K, 2) into the keypoints of both images.
        error: (K,) the larger of the two distances from epipolar lines, or from where a homography
            takes the other keypoint, in pixels.
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
) -> tuple[list[AnyFigures], list[list[Match]]]:
    """Match and evaluate all pairs of each tuple of a batch.

    Args:
        features: features of the batch's images.
        batch: the images and their cameras.
        conf: the settings.

    Returns:
        The figures of the pairs, tuple by tuple; and the matches of each tuple's pairs. Pairs are
        in the order of ``itertools.combinations``.
    """
    figures: list[AnyFigures] = []
    matches = []
    per_tuple = len(batch.views[0])
    for of_tuple, views, sizes in zip(
        split(features, per_tuple), batch.views, batch.sizes, strict=True
    ):
        of_pairs = []
        for i, j in combinations(range(per_tuple), 2):
            match = match_pair(of_tuple[i], of_tuple[j], views[i], views[j])
            figures.append(
                pair_figures(of_tuple[i], of_tuple[j], match, views[i], views[j], conf, sizes[i])
            )
            of_pairs.append(match)
        matches.append(of_pairs)
    return figures, matches


def match_pair(features1: Features, features2: Features, view1: View, view2: View) -> Match:
    """Match mutual nearest neighbours, and measure their errors."""
    index = mutual_nearest(features1.descriptors, features2.descriptors)
    xy1, xy2 = features1.xy[index[:, 0]].double(), features2.xy[index[:, 1]].double()
    if _of_one_photo(view1, view2):
        return Match(index, torch.maximum(*transfer_distances(xy1, xy2, view1, view2)))
    return Match(index, torch.maximum(*matched_epipolar_distances(xy1, xy2, view1, view2)))


def pair_figures(
    features1: Features,
    features2: Features,
    match: Match,
    view1: View,
    view2: View,
    conf: Mapping[str, Any],
    size1: tuple[int, int],
) -> AnyFigures:
    """Compute the figures of one pair; ``conf`` are the settings, ``size1`` the first's size."""
    reward, validation = conf["reward"], conf["validation"]
    n_kps = len(features1.xy) + len(features2.xy)
    n_pairs = len(match.indices)
    right = int((match.error < reward["threshold"]).sum())
    earned = reward["true_positive"] * right + reward["false_positive"] * (n_pairs - right)
    xy1, xy2 = (
        one.xy[match.indices[:, k]].double().cpu().numpy()
        for k, one in enumerate((features1, features2))
    )
    shared = (
        n_kps,
        n_pairs,
        right,
        n_pairs - right,
        earned + validation["keypoint"] * n_kps,
        right / (n_pairs + 1),
    )
    limits = validation["max_epipolar_error"], validation["max_iterations"]
    if _of_one_photo(view1, view2):
        return HomographyFigures(
            *shared, *homography_figures(xy1, xy2, view1, view2, size1, *limits)
        )
    return Figures(*shared, *pose_figures(xy1, xy2, view1, view2, *limits))


def _of_one_photo(view1: View, view2: View) -> bool:
    """Return whether two views are those of a photo under homographies (:mod:`.warped`)."""
    return view1.depth is not None and bool(without_baseline(view1, view2))
