"""The kernel that matches on a GPU, by Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch

from disk_hloc.models import nearest, triton_support

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("tests/test_cuda.py runs the kernel itself", allow_module_level=True)

from disk_hloc.models import nearest_kernel


@pytest.mark.parametrize(("count0", "count1"), [(2, 2), (130, 300), (257, 128)])
def test_the_greatest_products(count0, count1) -> None:
    # Of few numbers, so that there are ties, and products are exact.
    generator = torch.Generator().manual_seed(0)
    d0, d1 = (
        (torch.randint(-2, 3, (2, 16, count), generator=generator) / 8).half()
        for count in (count0, count1)
    )
    rows, at, columns = nearest_kernel.greatest(d0, d1)
    products = d0.float().mT @ d1.float()
    assert torch.equal(rows, products.amax(dim=2))
    assert torch.equal(at, products.argmax(dim=2))
    assert torch.equal(columns, products.amax(dim=1))


def test_matching_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    d0, d1 = (
        torch.nn.functional.normalize(torch.rand(2, 128, count) - 0.5, dim=1).half().float()
        for count in (140, 90)
    )
    expected = nearest.match_together(d0, d1)
    limited = nearest.match_together(d0, d1, None, 1.2)
    monkeypatch.setattr(triton_support, "supports", lambda device: True)
    for found, other in (
        (nearest.match_together(d0, d1), expected),
        (nearest.match_together(d0, d1, None, 1.2), limited),
    ):
        assert torch.equal(found[0], other[0])
        torch.testing.assert_close(found[1], other[1])
