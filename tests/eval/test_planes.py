"""Measures of photos of a plane, worked out by hand and against other libraries."""

from __future__ import annotations

import cv2
import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch

from disk_hloc.eval import planes

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
TILT = np.array([[1.1, 0.1, -20], [-0.05, 0.9, 12], [2e-4, -1e-4, 1]])
SIZE = (200, 100)


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([0, 0], SIZE, (count, 2))


# matching accuracy


def test_matching_accuracy_by_hand() -> None:
    """Off by 0, 1, 2.5 and 30 px."""
    found = planes.matching_accuracy(
        np.zeros((4, 2)), np.array([[10, 0], [10, 1], [12.5, 0], [10, 30]]), SHIFT
    )
    np.testing.assert_allclose(found, [0.5, 0.5, *[0.75] * 8])
    none = planes.matching_accuracy(np.zeros((0, 2)), np.zeros((0, 2)), SHIFT)
    np.testing.assert_array_equal(none, np.zeros(10))


def test_matching_accuracy_against_kornia() -> None:
    points0 = points(500)
    points1 = planes.transfer(TILT, points0) + np.random.default_rng(1).normal(0, 4, (500, 2))
    errors = kornia_geometry.homography.oneway_transfer_error(
        torch.from_numpy(points0)[None], torch.from_numpy(points1)[None],
        torch.from_numpy(TILT)[None], squared=False,
    )[0].numpy()  # fmt: skip
    expected = [(errors <= threshold).mean() for threshold in range(1, 11)]
    found = planes.matching_accuracy(points0, points1, TILT)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 0.01 < found[0] < found[9] < 0.99


def test_transfer_against_opencv_whatever_the_scale() -> None:
    expected = cv2.perspectiveTransform(points(50)[None], TILT)[0]
    np.testing.assert_allclose(planes.transfer(TILT, points(50)), expected, atol=1e-9)
    np.testing.assert_allclose(planes.transfer(-3 * TILT, points(50)), expected, atol=1e-9)


def test_a_point_beyond_the_horizon_is_nowhere() -> None:
    steep = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    found = planes.transfer(steep, np.array([[50.0, 1], [100, 1], [150, 1]]))
    np.testing.assert_allclose(found, [[100, 2], [np.inf, np.inf], [np.inf, np.inf]])


# homography


def test_corner_error_by_hand() -> None:
    """Matches that are all shifted by (3, 4) from the truth."""
    points0 = points(30)
    points1 = points0 + np.array([13, 4])
    assert planes.corner_error(points0, points1, SHIFT, SIZE) == pytest.approx(5, abs=1e-6)
    assert planes.corner_error(points0[:3], points1[:3], SHIFT, SIZE) == np.inf
    # Twice as large: corners off by 0, 199, hypot(199, 99) and 99.
    twice = np.diag([2.0, 2, 1])
    expected = np.mean([0, 199, np.hypot(199, 99), 99])
    found = planes.corner_error(points0, 2 * points0, np.eye(3), SIZE)
    assert found == pytest.approx(expected, rel=1e-6)
    assert planes.corner_error(points0, 2 * points0, twice, SIZE) == pytest.approx(0, abs=1e-6)


def test_corner_error_against_poselib() -> None:
    poselib = pytest.importorskip("poselib")
    points0 = points(400)
    points1 = planes.transfer(TILT, points0) + np.random.default_rng(1).normal(0, 0.3, (400, 2))
    points1[:150] = points(150, seed=2)
    theirs, _ = poselib.estimate_homography(points0, points1, {"max_reproj_error": 3.0}, {})
    corners = np.array([[0.0, 0], [199, 0], [199, 99], [0, 99]])
    moved = [cv2.perspectiveTransform(corners[None], matrix)[0] for matrix in (theirs, TILT)]
    expected = np.linalg.norm(moved[0] - moved[1], axis=1).mean()
    found = planes.corner_error(points0, points1, TILT, SIZE)
    assert found < 0.3
    assert found == pytest.approx(expected, abs=0.15)


# repeatability


def test_repeatability_by_hand() -> None:
    """Shifted by 10: of three, one leaves the view; of four, one comes from outside."""
    first = np.array([[0.0, 50], [100, 50], [195, 50]])
    second = np.array([[10.0, 53], [110, 60], [5, 50], [60, 20]])
    # Seen: 2 and 3 (x = 5 comes from x = -5). Found within 3 px: one of each.
    assert planes.repeatability(first, second, SHIFT, SIZE, SIZE) == pytest.approx(2 / 5)
    far = np.array([[199.0, 50]])
    assert np.isnan(planes.repeatability(far, np.zeros((0, 2)), SHIFT, SIZE, SIZE))


def test_repeatability_against_opencvs_matcher() -> None:
    first, second = points(300), planes.transfer(TILT, points(400, seed=3))
    found = seen = 0
    for source, target, matrix in ((first, second, TILT), (second, first, np.linalg.inv(TILT))):
        moved = cv2.perspectiveTransform(source[None], matrix)[0]
        moved = np.array([p for p in moved if -0.5 <= p[0] < 199.5 and -0.5 <= p[1] < 99.5])
        nearest = cv2.BFMatcher().match(moved.astype(np.float32), target.astype(np.float32))
        seen += len(moved)
        found += sum(match.distance <= 3 for match in nearest)
    value = planes.repeatability(first, second, TILT, SIZE, SIZE)
    assert value == pytest.approx(found / seen, abs=1e-9)
    assert 0.1 < value < 0.9
