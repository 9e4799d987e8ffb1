"""Distances to clouds that are larger than a block."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.eval import clouds


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 70),
    wall=st.booleans(),
)
def test_the_nearest_point_is_found_in_any_block(seed: int, count: int, wall: bool) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    if wall:
        cloud[: count // 2, 2] = 0
    # Some inside the blocks' bounds, some far outside.
    points = rng.normal(0, 2, (20, 3))
    with mock.patch.object(clouds, "BLOCK", 16):
        found = clouds.nearest(points, cloud, "Nearest")
    expected = np.linalg.norm(points[:, None] - cloud, axis=2).min(axis=1)
    assert found == pytest.approx(expected, abs=1e-12)
