"""Bilinear sampling on maps whose values are known everywhere."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.models.sampling import sample

sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(sides, sides),
    stride=st.tuples(st.floats(0.5, 16), st.floats(0.5, 16)),
    centre=st.tuples(st.floats(-4, 8), st.floats(-4, 8)),
    seed=st.integers(0, 2**31),
)
def test_a_linear_ramp_is_sampled_exactly(size, stride, centre, seed) -> None:
    """Cells that hold their own centre give each pixel itself, and the border beyond it."""
    height, width = size
    x, y = torch.arange(width).double(), torch.arange(height).double()
    columns = (centre[0] + stride[0] * x).expand(height, width)
    rows = (centre[1] + stride[1] * y)[:, None].expand(height, width)
    low = torch.tensor(centre, dtype=torch.float64)
    reach = torch.tensor([width - 1, height - 1]) * torch.tensor(stride, dtype=torch.float64)
    random = torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(seed))
    xy = low + random.double() * (reach + 20) - 10
    found = sample(torch.stack([columns, rows])[None], xy, stride, centre)
    expected = xy.maximum(low).minimum(low + reach).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_images_of_a_batch_have_their_own_pixels_and_gradients() -> None:
    values = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    xy = torch.tensor([[[4.0, 8.0]], [[24.0, 0.0]]])
    found = sample(values, xy, 4)
    torch.testing.assert_close(found[0, :, 0], values[0, :, 2, 1])
    torch.testing.assert_close(found[1, :, 0], values[1, :, 0, 6])
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.sum() == 6
    assert sample(values, xy[:, :0], 4).shape == (2, 3, 0)
