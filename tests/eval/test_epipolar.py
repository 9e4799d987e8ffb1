"""Distances from epipolar lines, against those of the fundamental matrix in pixels."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.eval.epipolar import epipolar_errors


def camera(focal: float, cx: float, cy: float) -> pycolmap.Camera:
    return pycolmap.Camera(model="PINHOLE", width=640, height=480, params=[focal, focal, cx, cy])


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(np.eye(3) + 0.2 * rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(q))


@given(st.integers(0, 2**32 - 1))
def test_errors_are_the_greater_distance_from_the_lines_in_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, t = rotation(rng), rng.standard_normal(3)
    camera0, camera1 = camera(500, 310, 250), camera(620, 330, 236)
    world = rng.uniform((-2, -2, 4), (2, 2, 9), (30, 3))
    moved = world @ r.T + t
    moved = moved[:, :]
    points0, points1 = (
        (p @ c.calibration_matrix().T)[:, :2] / p[:, 2:]
        for p, c in ((world, camera0), (moved, camera1))
    )
    exact = epipolar_errors(points0, points1, camera0, camera1, r, t)
    assert exact.max() < 1e-6
    points1 = points1 + rng.normal(0, 3, points1.shape)
    x, y, z = t
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ r
    k0, k1 = (np.linalg.inv(c.calibration_matrix()) for c in (camera0, camera1))
    fundamental = k1.T @ essential @ k0
    expected = []
    for a, b in zip(points0, points1, strict=True):
        a, b = np.append(a, 1), np.append(b, 1)
        line1, line0 = fundamental @ a, fundamental.T @ b
        expected.append(
            max(abs(b @ line1) / np.hypot(*line1[:2]), abs(a @ line0) / np.hypot(*line0[:2]))
        )
    errors = epipolar_errors(points0, points1, camera0, camera1, r, 7 * t)
    np.testing.assert_allclose(errors, expected, rtol=1e-6, atol=1e-6)


def test_no_matches_have_no_errors_and_an_epipole_is_finite() -> None:
    c = camera(500, 320, 240)
    none = epipolar_errors(np.zeros((0, 2)), np.zeros((0, 2)), c, c, np.eye(3), np.ones(3))
    assert none.shape == (0,)
    forward = np.array([0, 0, 1.0])
    errors = epipolar_errors(
        np.array([[320.0, 240]]), np.array([[320.0, 240]]), c, c, np.eye(3), forward
    )
    assert errors == pytest.approx([0])
