"""Positions in dense maps, and descriptors at them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from disk_hloc.models import sampling

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
    level: Level, values: Tensor, xy: Tensor, outside: sampling.Outside = "border"
) -> Tensor:
    """Interpolate a map bilinearly between the centres of its cells.

    Args:
        level: the cells.
        values: (C, h, w), a value for each.
        xy: (..., 2) x and y in pixels.
        outside: as in :func:`disk_hloc.models.sampling.sample`.

    Returns:
        (..., C).
    """
    places = xy.reshape(1, -1, 2)
    found = sampling.sample(values[None], places, level.cell, level.first, outside)
    return found[0].T.unflatten(0, xy.shape[:-1])


def describe(level: Level, xy: Tensor, outside: sampling.Outside = "border") -> Tensor:
    """Return the (..., D) descriptors of unit length at (..., 2) x and y in pixels."""
    return F.normalize(sample(level, level.descriptors, xy, outside), dim=-1)


def wide(values: Tensor) -> Tensor:
    """Convert to at least float32, which probabilities and unit lengths need."""
    return values if values.dtype == torch.float64 else values.float()
