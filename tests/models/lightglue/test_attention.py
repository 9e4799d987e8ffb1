"""Attention by parts, compared with its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.models.lightglue import attention
from disk_hloc.models.lightglue.attention import attend, attend_both

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}
sizes = st.integers(0, 300)


def expected(queries, keys, values):
    weights = torch.softmax(queries.float() @ keys.float().transpose(2, 3) / attention.LOG2_E, -1)
    return weights @ values.float()


def draw(seed, dtype, *shape):
    torch.manual_seed(seed)
    batch, heads, count = shape
    return torch.randn(batch, count, heads, 16).transpose(1, 2).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(batch=st.integers(1, 3), heads=st.integers(1, 4), n=sizes, m=sizes, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_messages_are_those_of_the_definition(dtype, batch, heads, n, m, seed) -> None:
    x0, values0 = (draw(seed + i, dtype, batch, heads, n) for i in (0, 1))
    x1, values1 = (draw(seed + i, dtype, batch, heads, m) for i in (2, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_ELEMENTS", 10_000)
        found = (attend(x0, x1, values1), *attend_both(x0, x1, values0, values1))
    there, back = expected(x0, x1, values1), expected(x1, x0, values0)
    for messages, right in zip(found, (there, there, back), strict=True):
        assert messages.dtype == dtype
        torch.testing.assert_close(messages.float(), right, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("largest", "wide"), [(10, False), (150, False), (400, True)])
def test_logits_may_span_more_than_the_exponents_of_a_number(largest, wide, monkeypatch) -> None:
    seen = []
    compute = attention._wide_messages
    monkeypatch.setattr(
        attention, "_wide_messages", lambda *given: seen.append(1) or compute(*given)
    )
    # Each query has one key like it, with logits from 0 to the largest.
    keys = torch.diag(torch.linspace(0, largest, 16).sqrt())[None, None].bfloat16()
    values = draw(0, torch.bfloat16, 1, 1, 16)
    for messages in (attend(keys, keys, values), *attend_both(keys, keys, values, values)):
        right = expected(keys, keys, values)
        torch.testing.assert_close(messages.float(), right, rtol=0, atol=0.05)
    assert bool(seen) == wide


def test_weights_that_are_lost_in_one_direction_are_found_in_both(monkeypatch) -> None:
    # A column far below all others: each row has a large weight, the column has none.
    keys0 = torch.full((1, 1, 8, 2), 14.0).bfloat16()
    keys1 = torch.tensor([[[[14.0, 14.0], [-1.0, -1.0]]]]).bfloat16()
    values0 = draw(0, torch.bfloat16, 1, 1, 8)[..., :2]
    values1 = torch.ones(1, 1, 2, 2).bfloat16()
    there, back = attend_both(keys0, keys1, values0, values1)
    torch.testing.assert_close(there.float(), torch.ones(1, 1, 8, 2))
    right = expected(keys1, keys0, values0)
    torch.testing.assert_close(back.float(), right, rtol=0, atol=0.05)
