"""Values that any program can compute again, for comparisons with other code."""

from __future__ import annotations

import torch
from torch import Tensor


def waves(channels: int, height: int, width: int, phase: float, **options: torch.dtype) -> Tensor:
    """Return (channels, height, width) sums of waves along x and y."""
    c, y, x = torch.meshgrid(
        *(torch.arange(n, **options) for n in (channels, height, width)), indexing="ij"
    )
    return torch.sin((0.3 + 0.17 * c) * x + phase) + torch.cos((0.4 + 0.11 * c) * y - 0.05 * c * x)
