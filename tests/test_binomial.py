"""The probability of success by chance, compared with scipy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from disk_hloc.binomial import log10_tail


@given(num=st.integers(0, 5000), part=st.floats(-0.1, 1), rate=st.floats(1e-6, 1))
def test_it_is_that_of_the_binomial_distribution(num, part, rate) -> None:
    least = math.floor(part * num)
    expected = binom.sf(least - 1, num, rate)
    found = log10_tail(least, num, rate)
    if expected < 1e-300:
        assert found < -290
    else:
        assert found == pytest.approx(math.log10(expected), rel=1e-9, abs=1e-9)


def test_it_is_known_where_no_float_holds_the_probability() -> None:
    assert log10_tail(2000, 2000, 0.1) == pytest.approx(-2000)
    assert log10_tail(5, 10, 1.0) == 0


def test_ends() -> None:
    assert log10_tail(0, 10, 0.5) == log10_tail(-3, 10, 0.5) == 0
    assert log10_tail(3, 3, 0.5) == pytest.approx(math.log10(1 / 8))
