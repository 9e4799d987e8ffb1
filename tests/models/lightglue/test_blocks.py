"""LightGlue's assignment, compared with kornia's."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.feature.lightglue import MatchAssignment

from disk_hloc.models.lightglue.blocks import Assignment

sizes = st.integers(0, 300)


@given(n=sizes, m=sizes, seed=st.integers(0, 99), spread=st.sampled_from([9, 90]))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_assignment_is_kornias(n, m, seed, spread) -> None:
    torch.manual_seed(seed)
    block = MatchAssignment(32)
    x0, x1 = torch.randn(2, n, 32) * spread, torch.randn(2, m, 32) * spread
    expected, _ = block(x0, x1)
    found = Assignment(block)(x0, x1)
    # Logits, and their rounding, grow with the square.
    torch.testing.assert_close(found, expected[:, :-1, :-1], rtol=1e-5, atol=1e-6 * spread**2)
