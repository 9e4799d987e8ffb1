"""Winograd's convolution against torch's direct one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.models.disk_network.winograd import TILE, TILE_ROWS, convolve, transform_weight
from disk_hloc.models.disk_network.workspace import Workspace


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, TILE * TILE_ROWS + 9),
    width=st.integers(1, 40),
    channels=st.integers(1, 9),
    out_channels=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_direct_convolution(height, width, channels, out_channels, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(height, width, channels, generator=generator)
    weight = torch.randn(out_channels, channels, 5, 5, generator=generator)
    exact = F.conv2d(image.permute(2, 0, 1)[None].double(), weight.double(), padding=2)[0]
    result = torch.full((height, width, out_channels), torch.nan)
    workspace = Workspace()
    for _ in range(2):  # the second time in memory that has been used
        convolve(lambda a, b: image[a:b], transform_weight(weight), result, workspace)
        torch.testing.assert_close(
            result.permute(2, 0, 1).double(), exact, rtol=0, atol=1e-3 * channels**0.5
        )
