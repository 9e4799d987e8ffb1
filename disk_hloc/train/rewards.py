"""What a match is worth (section 3 of DISK's paper, "Reward").

A match is right if depth carries each keypoint to the other, and wrong if epipolar geometry rules
it out. Between the two nothing is known, and it is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .geometry import View, epipolar_distances, transfer

# (N, 2) and (M, 2) float pixels of two views -> (N, M) rewards.
Reward = Callable[[Tensor, Tensor, View, View], Tensor]


def plausible(xy1: Tensor, xy2: Tensor, view1: View, view2: View, threshold: float) -> Tensor:
    """(N, M) bool: each keypoint is within ``threshold`` pixels of the other's epipolar line."""
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
    """Rewards by epipolar geometry alone.

    Args:
        xy1, xy2: (N, 2) and (M, 2) float pixels.
        view1, view2: their cameras.
        threshold: in pixels.
        true_positive: reward of a pair that agrees with the cameras.
        false_positive: of one that does not.

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
    """Rewards by depth, penalties by epipolar geometry.

    A pair is good if, by the depth of each image, its points are within ``threshold`` pixels of
    each other in both. Without depth it can only be bad. Arguments as :func:`epipolar_reward`,
    and both views have depth.

    Returns:
        (N, M) of the dtype of ``xy1``.
    """
    in_second = transfer(xy1, view1, view2)
    in_first = transfer(xy2, view2, view1)
    # What is NaN is close to nothing.
    good = _close(in_second[:, None], xy2[None, :], threshold)
    good &= _close(xy1[:, None], in_first[None, :], threshold)
    bad = ~plausible(xy1, xy2, view1, view2, threshold)
    return true_positive * good.to(xy1.dtype) + false_positive * bad.to(xy1.dtype)


def _close(xy1: Tensor, xy2: Tensor, threshold: float) -> Tensor:
    """(N, M) bool; the coordinates are taken one by one, not to hold (N, M, 2)."""
    squared: Tensor | float = 0.0
    for axis in range(2):
        squared = squared + (xy1[..., axis] - xy2[..., axis]).square()
    return torch.as_tensor(squared) < threshold**2
