"""Values of a map at pixels of its image."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

# Of both axes, or of x and y.
PerAxis = float | tuple[float, float]
# Values beyond the centres of the outermost cells: theirs, or 0.
Outside = Literal["border", "zeros"]


def sample(
    values: Tensor,
    xy: Tensor,
    stride: PerAxis,
    centre: PerAxis = 0.0,
    outside: Outside = "border",
) -> Tensor:
    """Interpolate a map bilinearly at pixels of the image that it was made of.

    Args:
        values: (B, C, h, w) float.
        xy: (B, N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
        stride: distance of the centres of neighbouring cells, in pixels.
        centre: the pixel on which the top-left cell is centred. ResNets with odd kernels that are
            padded by their half have 0, whatever their stride.
        outside: beyond the centres of the outermost cells, the map goes on with their values, or
            falls to 0 within one cell.

    Returns:
        (B, C, N). It has gradients with respect to both ``values`` and ``xy``.
    """
    xy = xy.to(values.dtype)
    cells = (xy - xy.new_tensor(centre)) / xy.new_tensor(stride)
    size = cells.new_tensor([values.shape[3], values.shape[2]])
    # grid_sample's places: -1 and 1 at the outer borders of the outermost cells.
    places = (2 * cells + 1) / size - 1
    sampled = F.grid_sample(
        values, places[:, :, None], mode="bilinear", padding_mode=outside, align_corners=False
    )
    return sampled[..., 0]
