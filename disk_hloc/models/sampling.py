"""Values of a map at pixels of its image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of both axes, or of x and y.
PerAxis = float | tuple[float, float]


def sample(values: Tensor, xy: Tensor, stride: PerAxis, centre: PerAxis = 0.0) -> Tensor:
    """Interpolate a map bilinearly at pixels of the image that it was made of.

    Beyond the centres of the outermost cells the map goes on with their values.

    Args:
        values: (B, C, h, w) float.
        xy: (B, N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
        stride: distance of the centres of neighbouring cells, in pixels.
        centre: the pixel on which the top-left cell is centred. ResNets with odd kernels that are
            padded by their half have 0, whatever their stride.

    Returns:
        (B, C, N). It has gradients with respect to both ``values`` and ``xy``.
    """
    xy = xy.to(values.dtype)
    cells = (xy - xy.new_tensor(centre)) / xy.new_tensor(stride)
    last = cells.new_tensor([values.shape[3] - 1, values.shape[2] - 1])
    # grid_sample's places: -1 and 1 at the centres of the outermost cells.
    places = 2 * cells / last.clamp(min=1) - 1
    places = torch.where(last > 0, places, 0)
    sampled = F.grid_sample(
        values, places[:, :, None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return sampled[..., 0]
