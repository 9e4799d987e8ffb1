"""Keypoints of a score map by the rules of PoSFeat's code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def find_posfeat_keypoints(scores: Tensor, radius: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Find the local maxima of a score map, by row, then column.

    The outermost pixels have no keypoint and suppress none. Inside, a window that runs off is
    filled by reflection, and of equal values in it the first counts, a reflected one, too.

    Args:
        scores: (H, W) float.
        radius: the window has ``2 radius + 1`` pixels a side.
        threshold: a maximum is greater.

    Returns:
        (N, 2) int64 x and y in pixels; (N,) scores, by which PoSFeat's code chooses the best. What
        it writes is the greatest of the 3 x 3 pixels around, which may be one of the outermost.
    """
    height, width = (side - 2 for side in scores.shape)
    if min(height, width) <= radius:
        return scores.new_zeros((0, 2), dtype=torch.int64), scores.new_zeros(0)
    inner = scores[1:-1, 1:-1]
    framed = F.pad(inner[None], (radius,) * 4, mode="reflect")
    _, greatest = F.max_pool2d(framed, 2 * radius + 1, stride=1, return_indices=True)
    own = torch.arange(framed.numel(), device=scores.device).view(framed.shape[1:])
    own = own[radius : radius + height, radius : radius + width]
    y, x = torch.nonzero((greatest[0] == own) & (inner > threshold), as_tuple=True)
    return torch.stack([x, y], dim=1) + 1, inner[y, x]


def centroids(scores: Tensor, xy: Tensor) -> Tensor:
    """Move keypoints to the mean of the 3 x 3 pixels around each, weighted by their scores.

    That is a small part of the way to the peak, since the weights are nearly equal:
    :func:`disk_hloc.models.disk_network.keypoints.refine_keypoints` goes all of it.

    Args:
        scores: (H, W) float, greater than 0.
        xy: (N, 2) int64 x and y in pixels, none of them the outermost.

    Returns:
        (N, 2) float32 x and y in pixels.
    """
    around = torch.arange(-1, 2, device=xy.device)
    weights = scores[xy[:, 1, None, None] + around[:, None], xy[:, :1, None] + around]
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    along_x, along_y = weights.sum(dim=1), weights.sum(dim=2)
    moved = torch.stack([along_x, along_y], dim=1) @ around.to(weights)
    return (xy + moved).float()
