"""LightGlue's attention and assignment, compared with their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.feature.lightglue import MatchAssignment

from disk_hloc.models.lightglue_cpu import Assignment, attend

sizes = st.integers(1, 300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(batch=st.integers(1, 3), heads=st.integers(1, 4), n=sizes, m=sizes, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_attention_by_rows_is_attention(dtype, batch, heads, n, m, seed) -> None:
    torch.manual_seed(seed)
    queries = torch.randn(batch, n, heads, 16).transpose(1, 2).to(dtype)
    keys, values = torch.randn(2, batch, heads, m, 16).to(dtype)
    expected = torch.softmax(queries.float() @ keys.float().transpose(2, 3), -1) @ values.float()
    found = attend(queries, keys, values)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=tolerance)


@given(n=sizes, m=sizes, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_assignment_is_kornias(n, m, seed) -> None:
    torch.manual_seed(seed)
    block = MatchAssignment(32)
    x0, x1 = torch.randn(2, n, 32) * 9, torch.randn(2, m, 32) * 9
    expected, _ = block(x0, x1)
    found, _ = Assignment(block)(x0, x1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
