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
    """Move maxima to where a parabola through their neighbours has its peak, along each axis.

    Args:
        heatmap: (H, W) float.
        xy: (N, 2) int64 x and y of local maxima. One at the image's edge stays along that axis.

    Returns:
        (N, 2) float32 x and y, at most half a pixel from ``xy`` along each axis.
    """
    height, width = heatmap.shape
    x, y = xy.T
    middle = heatmap[y, x]
    offsets = []
    for axis, size in enumerate((width, height)):
        step = torch.eye(2, dtype=torch.int64, device=xy.device)[axis]
        inside = (xy[:, axis] > 0) & (xy[:, axis] < size - 1)
        before, after = (xy + sign * step * inside[:, None] for sign in (-1, 1))
        low, high = (heatmap[neighbour[:, 1], neighbour[:, 0]] for neighbour in (before, after))
        curvature = 2 * middle - low - high
        offset = (high - low) / (2 * curvature.clamp(min=torch.finfo(heatmap.dtype).tiny))
        offsets.append(torch.where(curvature > 0, offset, 0).clamp(-0.5, 0.5))
    return xy + torch.stack(offsets, dim=1)


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
