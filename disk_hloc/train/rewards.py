"""Compute the rewards of matches (section 3 of DISK's paper, "Reward").

A match is correct if depth maps each keypoint to the other, and wrong if it contradicts epipolar
geometry. A match that is neither has a reward of zero.

Two cameras at one place have no epipolar geometry. There depth alone decides, whatever its value,
and a match that is not correct is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .geometry import View, epipolar_distances, transfer, without_baseline

# (N, 2) and (M, 2) float pixels of two views -> (N, M) rewards.
Reward = Callable[[Tensor, Tensor, View, View], Tensor]


def plausible(xy1: Tensor, xy2: Tensor, view1: View, view2: View, threshold: float) -> Tensor:
    """Check for each pair that both keypoints are near the other's epipolar line.

    Args:
        xy1, xy2: (N, 2) and (M, 2) float pixels.
        view1, view2: their cameras.
        threshold: largest distance in pixels.

    Returns:
        (N, M) bool.
    """
    first, second = epipolar_distances(xy1, xy2, view1, view2)
    return (first < threshold) & (second < threshold)


def epipolar_reward(
    xy1: Tensor,
    xy2: Tensor,
    view1: View,
    view2: View,
    *,
    threshold: float,
    true_positive: float,
    false_positive: float,
) -> Tensor:
    """Compute rewards from epipolar geometry alone.

    Args:
        xy1, xy2: (N, 2) and (M, 2) float pixels.
        view1, view2: their cameras.
        threshold: largest distance from an epipolar line in pixels.
        true_positive: reward of a pair that agrees with the cameras.
        false_positive: reward of a pair that does not.

    Returns:
        (N, M) of the dtype of ``xy1``.
    """
    good = plausible(xy1, xy2, view1, view2, threshold)
    return true_positive * good.to(xy1.dtype) + false_positive * (~good).to(xy1.dtype)


def depth_reward(
    xy1: Tensor,
    xy2: Tensor,
    view1: View,
    view2: View,
    *,
    threshold: float,
    true_positive: float,
    false_positive: float,
) -> Tensor:
    """Compute rewards from depth, and penalties from epipolar geometry.

    A pair is correct if its points, projected with the depth of each image, are within
    ``threshold`` pixels of each other in both images. Where depth is unknown, a pair can only be
    wrong. The arguments are those of :func:`epipolar_reward`; both views need depth.

    Returns:
        (N, M) of the dtype of ``xy1``.
    """
    in_second = transfer(xy1, view1, view2)
    in_first = transfer(xy2, view2, view1)
    # NaN, where depth is unknown, is close to nothing.
    good = _close(in_second[:, None], xy2[None, :], threshold)
    good &= _close(xy1[:, None], in_first[None, :], threshold)
    bad = ~torch.where(
        without_baseline(view1, view2), good, plausible(xy1, xy2, view1, view2, threshold)
    )
    return true_positive * good.to(xy1.dtype) + false_positive * bad.to(xy1.dtype)


def _close(xy1: Tensor, xy2: Tensor, threshold: float) -> Tensor:
    """Return (N, M) bool; x and y are processed separately to avoid an array of (N, M, 2)."""
    squared: Tensor | float = 0.0
    for axis in range(2):
        squared = squared + (xy1[..., axis] - xy2[..., axis]).square()
    return torch.as_tensor(squared) < threshold**2
