"""Keypoints of a heatmap: its local maxima and their positions between the pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Categorical


def find_keypoints(
    heatmap: Tensor, window_size: int = 5, threshold: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Find the strict local maxima of a heatmap, by row, then column.

    A maximum is greater than every other value in its full window (as kornia 0.9's ``nms2d``;
    for DISK's release see :func:`find_released_keypoints`), and greater than ``threshold``.

    Args:
        heatmap: (H, W) float.
        window_size: odd side of the window in pixels.
        threshold: in the heatmap's units.

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
    if window_size > 1:
        # The running maximum says that no other value is greater; ties must go too.
        window = _windows(heatmap, y, x, radius)
        alone = (window == heatmap[y, x][:, None, None]).sum(dim=(1, 2)) == 1
        y, x = y[alone], x[alone]
    return torch.stack([x, y], dim=1), heatmap[y, x]


def find_released_keypoints(
    heatmap: Tensor,
    max_keypoints: int | None = None,
    window_size: int = 5,
    threshold: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Find the local maxima of a heatmap by the rules of DISK's release, by row, then column.

    They differ from those of :func:`find_keypoints` in three ways. A window is cut off at the
    border, so there are keypoints at the border too. Of equal maxima in a window, the first by row
    and column counts. And ``max_keypoints`` keeps those that are greater than the next one: all
    that tie with it are dropped, and of fewer maxima the weakest is dropped.

    Args:
        heatmap: (H, W) float.
        max_keypoints: see above; None keeps all.
        window_size: odd side of the window in pixels.
        threshold: a maximum is greater; in the heatmap's units.

    Returns:
        (N, 2) int64 x and y in pixels; (N,) scores.
    """
    radius = window_size // 2
    framed = F.pad(heatmap, (radius,) * 4, value=-torch.inf)
    greatest = _running_maximum(_running_maximum(framed, window_size, 0), window_size, 1)
    y, x = torch.nonzero((heatmap == greatest) & (heatmap > threshold), as_tuple=True)
    window = _windows(framed, y + radius, x + radius, radius).flatten(1)
    before = window[:, : window.shape[1] // 2]
    first = (before < heatmap[y, x][:, None]).all(dim=1)
    y, x = y[first], x[first]
    scores = heatmap[y, x]
    if max_keypoints is not None and len(scores):
        next_one = scores.topk(min(max_keypoints + 1, len(scores))).values[-1]
        kept = scores > next_one
        y, x, scores = y[kept], x[kept], scores[kept]
    return torch.stack([x, y], dim=1), scores


def sample_keypoints(heatmap: Tensor, cell: int = 8) -> tuple[Tensor, Tensor]:
    """Draw keypoints at random as in DISK's training (section 3, equation 1 of the paper).

    In each cell of a grid one pixel is proposed with the softmax of the cell's logits, and
    accepted with the sigmoid of its own. torch's random numbers are drawn as the release draws
    them, so the same seed gives the same keypoints.

    Args:
        heatmap: (H, W) float logits; H and W are multiples of ``cell``.
        cell: side of a cell in pixels.

    Returns:
        (N, 2) int64 x and y in pixels, cell by cell; (N,) log-probability of proposing and
        accepting each.
    """
    cells = heatmap.unflatten(1, (-1, cell)).unflatten(0, (-1, cell)).transpose(1, 2).flatten(2)
    proposal = Categorical(logits=cells)
    index = proposal.sample()
    acceptance = Bernoulli(logits=cells.gather(2, index[..., None])[..., 0])
    accepted = acceptance.sample()
    log_probability = proposal.log_prob(index) + acceptance.log_prob(accepted)
    row, column = torch.nonzero(accepted, as_tuple=True)
    index = index[row, column]
    y = row * cell + index.div(cell, rounding_mode="floor")
    x = column * cell + index % cell
    return torch.stack([x, y], dim=1), log_probability[row, column]


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
    """Return the maximum of each ``size`` successive values, ``size - 1`` fewer values.

    By doubling, which is many times faster than pooling on a CPU.
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
