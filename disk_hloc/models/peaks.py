"""Keypoints of a heatmap: its local maxima, and where between the pixels they lie."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def find_keypoints(
    heatmap: Tensor,
    max_keypoints: int | None = None,
    window_size: int = 5,
    threshold: float = 0.0,
    keep: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The strict local maxima of a heatmap, by row, then column.

    A maximum is greater than every other value in its full window (as kornia 0.9's ``nms2d``;
    DISK's release differs at borders and ties), and greater than ``threshold``.

    Args:
        heatmap: (H, W) float.
        max_keypoints: the greatest so many are kept; of those that tie for the last place, the
            first by row and column. None keeps all.
        window_size: odd side of the window in pixels.
        threshold: in the heatmap's units.
        keep: says of (N, 2) int64 x and y, (N,) bool, which may be keypoints; the others are
            dropped before the greatest are chosen.

    Returns:
        (N, 2) int64 x and y in pixels; (N,) scores.
    """
    height, width = heatmap.shape
    radius = window_size // 2
    if min(height, width) < window_size:
        return heatmap.new_zeros((0, 2), dtype=torch.int64), heatmap.new_zeros(0)
    inner = heatmap[radius : height - radius, radius : width - radius]
    greatest = _running_maximum(_running_maximum(heatmap, window_size, 0), window_size, 1)
    y, x = torch.nonzero((inner == greatest) & (inner > threshold), as_tuple=True)
    y, x = y + radius, x + radius
    if keep is not None:
        kept = keep(torch.stack([x, y], dim=1))
        y, x = y[kept], x[kept]
    if window_size > 1:
        # The running maximum says that no other value is greater; ties must go too.
        window = _windows(heatmap, y, x, radius)
        alone = (window == heatmap[y, x][:, None, None]).sum(dim=(1, 2)) == 1
        y, x = y[alone], x[alone]
    scores = heatmap[y, x]
    if max_keypoints is not None and len(scores) > max_keypoints:
        strongest = torch.sort(scores, descending=True, stable=True).indices[:max_keypoints]
        kept = strongest.sort().values
        y, x, scores = y[kept], x[kept], scores[kept]
    return torch.stack([x, y], dim=1), scores


def refine_keypoints(heatmap: Tensor, xy: Tensor) -> Tensor:
    """Move maxima to the peak of the quadratic that is closest to the 3 x 3 values around each.

    Closest by least squares: of several fits the most precise on photos whose poses are known.
    Where it has no peak, and at the image's edge, a parabola along each axis takes its place.

    Args:
        heatmap: (H, W) float.
        xy: (N, 2) int64 x and y of local maxima. One at the image's edge stays along that axis.

    Returns:
        (N, 2) float32 x and y, at most half a pixel from ``xy`` along each axis.
    """
    height, width = heatmap.shape
    around = torch.arange(-1, 2, device=xy.device)
    x = (xy[:, :1] + around).clamp(0, width - 1)
    y = (xy[:, 1:] + around).clamp(0, height - 1)
    window = heatmap[y[:, :, None], x[:, None]]
    # Relative to the maximum, so that small differences keep their digits.
    window = window - window[:, 1:2, 1:2]
    tiny = torch.finfo(heatmap.dtype).tiny

    # First and second derivatives of the quadratic, (N, 2) along x and y, and the mixed one.
    before, middle, after = torch.stack([window.sum(dim=1), window.sum(dim=2)], dim=1).unbind(dim=2)
    slope, curvature = (after - before) / 6, (before - 2 * middle + after) / 3
    mixed = (window[:, 0, 0] + window[:, 2, 2] - window[:, 0, 2] - window[:, 2, 0]) / 4
    determinant = curvature.prod(dim=1) - mixed.square()
    inside = (xy > 0) & (xy < xy.new_tensor([width - 1, height - 1]))
    peaked = inside.all(dim=1) & (curvature < 0).all(dim=1) & (determinant > tiny)
    peak = mixed[:, None] * slope.flip(1) - curvature.flip(1) * slope
    peak = peak / torch.where(peaked, determinant, 1)[:, None]

    low, high = window[:, [1, 0], [0, 1]], window[:, [1, 2], [2, 1]]
    drop = -(low + high)
    parabola = torch.where(inside & (drop > 0), (high - low) / (2 * drop.clamp(min=tiny)), 0)
    return xy + torch.where(peaked[:, None], peak, parabola).clamp(-0.5, 0.5).float()


def _running_maximum(values: Tensor, size: int, dim: int) -> Tensor:
    """The greatest of each ``size`` values in a row, ``size - 1`` fewer than there were.

    By doubling, which a CPU does many times faster than pooling.
    """
    covered = 1
    while covered < size:
        step = min(covered, size - covered)
        count = values.shape[dim] - step
        values = torch.maximum(values.narrow(dim, 0, count), values.narrow(dim, step, count))
        covered += step
    return values


def _windows(heatmap: Tensor, y: Tensor, x: Tensor, radius: int) -> Tensor:
    offset = torch.arange(-radius, radius + 1, device=heatmap.device)
    return heatmap[
        y[:, None, None] + offset[None, :, None], x[:, None, None] + offset[None, None, :]
    ]
