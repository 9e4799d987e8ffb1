"""Positions in dense maps, and descriptors at them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import Level


def centers(level: Level) -> Tensor:
    """Return the centres of a map's cells, (h * w, 2) x and y in pixels, row by row."""
    values = level.descriptors
    height, width = values.shape[-2:]
    column = torch.arange(width, dtype=values.dtype, device=values.device)
    row = torch.arange(height, dtype=values.dtype, device=values.device)
    x, y = column * level.cell[0] + level.first[0], row * level.cell[1] + level.first[1]
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def sample(
    level: Level, values: Tensor, xy: Tensor, outside: Literal["zeros", "border"] = "border"
) -> Tensor:
    """Interpolate a map bilinearly between the centres of its cells.

    Args:
        level: the cells.
        values: (C, h, w), a value for each.
        xy: (..., 2) x and y in pixels.
        outside: value beyond the outermost centres: 0, or that at the border.

    Returns:
        (..., C).
    """
    size = xy.new_tensor([values.shape[-1], values.shape[-2]])
    cell, first = xy.new_tensor(level.cell), xy.new_tensor(level.first)
    # grid_sample counts from -1 to 1 over the whole of the outermost cells.
    grid = (2 * (xy - first) / cell + 1) / size - 1
    found = F.grid_sample(
        values[None], grid.reshape(1, 1, -1, 2), padding_mode=outside, align_corners=False
    )
    return found[0, :, 0].T.unflatten(0, xy.shape[:-1])


def describe(level: Level, xy: Tensor, outside: Literal["zeros", "border"] = "border") -> Tensor:
    """Return the (..., D) descriptors of unit length at (..., 2) x and y in pixels."""
    return F.normalize(sample(level, level.descriptors, xy, outside), dim=-1)
