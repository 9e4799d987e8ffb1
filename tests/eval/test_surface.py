"""Distances to triangles: by hand, against trimesh, and against all triangles one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.eval.surface import Surface, point_to_triangle

# A right triangle in the plane z = 0.
CORNERS = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]])


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((1, 1, 0), 0),
        ((1, 1, -2), 2),
        ((2, -3, 4), 5),  # off an edge
        ((-3, -4, 0), 5),  # off a corner
        ((4, 3, 0), 12 / 5),  # off the long side
        ((7, 0, 4), 5),
    ],
)
def test_distances_by_hand(point: tuple, distance: float) -> None:
    for turned in (CORNERS, CORNERS[::-1], CORNERS[[1, 2, 0]]):
        surface = Surface(turned + 100, np.array([[0, 1, 2]]))
        assert surface.distances(np.array([point]) + 100.0) == pytest.approx(distance)


@pytest.mark.parametrize("corners", [CORNERS[[0, 0, 0]], CORNERS[[0, 1, 0]], CORNERS[[0, 0, 1]]])
def test_triangles_without_area_are_segments_or_points(corners: np.ndarray) -> None:
    surface = Surface(corners, np.array([[0, 1, 2]]))
    expected = 5 if (corners == 0).all() else 3
    assert surface.distances(np.array([[4.0, 0, 3]])) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), spread=st.sampled_from([0.1, 1, 30])
)
def test_the_nearest_triangle_is_found(seed: int, count: int, spread: float) -> None:
    """Whatever the sizes of triangles, against every triangle of every point."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(-4, 2, (count, 1, 1)))
    corners = rng.normal(0, spread, (count, 1, 3)) + sizes * rng.normal(size=(count, 3, 3))
    points = rng.normal(0, spread, (40, 3))
    surface = Surface(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))
    pairs = point_to_triangle(np.repeat(points, count, axis=0), np.tile(corners, (40, 1, 1)))
    expected = pairs.reshape(40, count).min(axis=1)
    np.testing.assert_allclose(surface.distances(points), expected, rtol=1e-7, atol=1e-9)


def test_against_trimesh() -> None:
    closest_point = pytest.importorskip("trimesh.triangles").closest_point
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(5000, 3, 3))
    points = rng.normal(0, 2, (5000, 3))
    expected = np.linalg.norm(closest_point(corners, points) - points, axis=1)
    np.testing.assert_allclose(point_to_triangle(points, corners), expected, atol=1e-12)


def test_samples_cover_triangles_by_their_area() -> None:
    """Two triangles of areas 6 and 54: on them, and in that proportion."""
    points = np.concatenate([CORNERS, CORNERS * 3 + (0, 0, 5)])
    surface = Surface(points, np.arange(6).reshape(2, 3))
    np.testing.assert_allclose(surface.areas(), [6, 54])
    blocks = list(surface.samples(0.05, 1000))
    assert max(map(len, blocks)) == 1000
    found = np.concatenate(blocks)
    assert len(found) == pytest.approx(60 / 0.05**2, abs=2)
    assert surface.distances(found[::20]).max() < 1e-9
    assert (found[:, 2] < 1).mean() == pytest.approx(0.1, abs=1e-3)
    np.testing.assert_allclose(found[found[:, 2] < 1].mean(axis=0), (4 / 3, 1, 0), atol=0.1)
