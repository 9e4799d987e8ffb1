"""Relative poses: errors worked out by hand, and estimates by two libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.eval import stereo
from disk_hloc.geometry import Pose
from support.hloc_files import write_features, write_matches

IDENTITY = np.eye(3)
CAMERA = pycolmap.Camera(model="PINHOLE", width=640, height=480, params=[500, 510, 320, 240])


def turn_about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("rotation", "translation", "expected"),
    [
        (IDENTITY, [1, 0, 0], 0),
        (IDENTITY, [5, 0, 0], 0),
        (IDENTITY, [-2, 0, 0], 0),
        (IDENTITY, [1, 1, 0], 45),
        (IDENTITY, [0, 0, 1], 90),
        (turn_about_z(30), [1, 0, 0], 30),
        (turn_about_z(-170), [1, 0, 0], 170),
        (turn_about_z(10), [1, np.tan(np.radians(25)), 0], 25),
        (turn_about_z(40), [-1, np.tan(np.radians(25)), 0], 40),
    ],
)
def test_the_error_is_the_greater_of_two_angles(rotation, translation, expected) -> None:
    error = stereo.pose_error(rotation, np.array(translation), IDENTITY, np.array([3.0, 0, 0]))
    assert error == pytest.approx(expected, abs=1e-9)


def test_small_errors_are_exact() -> None:
    error = stereo.pose_error(turn_about_z(1e-6), np.array([1, 0, 0]), IDENTITY, np.eye(3)[0])
    assert error == pytest.approx(1e-6, rel=1e-6)


def test_mean_accuracy_by_hand() -> None:
    errors = np.array([0.5, 3.0, 7.2, np.inf])
    # Within 1, 2: one of four; 3, 4, 5, 6, 7: two; 8, 9, 10: three.
    assert stereo.mean_accuracy(errors, 10) == pytest.approx((2 * 1 + 5 * 2 + 3 * 3) / 40)
    assert stereo.mean_accuracy(errors, 5) == pytest.approx((2 * 1 + 3 * 2) / 20)
    # Of 0.1, ..., 1.0 six are at least 0.5.
    assert stereo.mean_accuracy(errors, 1) == pytest.approx(6 / 40)
    # Of 0.2, 0.4, ..., 2.0 eight.
    assert stereo.mean_accuracy(errors, 2) == pytest.approx(8 / 40)
    assert np.isnan(stereo.mean_accuracy(np.array([]), 10))


def test_area_by_hand() -> None:
    assert stereo.auc(np.array([0.0, 5.0, 10.0, np.inf]), 10) == pytest.approx(1.5 / 4)
    assert np.isnan(stereo.auc(np.array([]), 5))


ERRORS = st.lists(st.floats(0, 180) | st.just(np.inf), min_size=1, max_size=40).map(np.array)


@given(ERRORS, st.sampled_from([1, 2, 5, 10, 20]))
def test_accuracy_and_area_bracket_each_other(errors, limit) -> None:
    """The accuracy is a sum over steps of the area's integrand, taken at their ends."""
    step = 1 / (limit if limit >= 5 else 10)
    area, accuracy = stereo.auc(errors, limit), stereo.mean_accuracy(errors, limit)
    assert area - 1e-9 <= accuracy <= area + step + 1e-9


@given(ERRORS, st.sampled_from([5, 10, 20]))
def test_area_against_superglues_formula(errors, limit) -> None:
    """Theirs joins the steps, by at most a step of one over the number of errors."""
    ordered = np.concatenate([[0], np.sort(errors)])
    recall = np.arange(len(ordered)) / len(errors)
    last = np.searchsorted(ordered, limit)
    x, y = np.append(ordered[:last], limit), np.append(recall[:last], recall[max(last - 1, 0)])
    theirs = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / limit
    assert theirs - 0.5 / len(errors) - 1e-9 <= stereo.auc(errors, limit) <= theirs + 1e-9


def two_views(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Pose]:
    """200 points in two images, with noise of 0.2 px, a quarter of the second at random."""
    angle = np.radians(6)
    pose = Pose(np.array([np.cos(angle), 0, np.sin(angle), 0]), np.array([-1.2, 0.1, 0.3]))
    world = rng.uniform([-2, -2, 4], [2, 2, 8], (200, 3))
    images = []
    for points in (world, world @ pose.rotation.T + pose.translation):
        pixels = points[:, :2] / points[:, 2:] * [500, 510] + [320, 240]
        images.append(pixels + rng.normal(0, 0.2, (200, 2)))
    images[1][:50] = rng.uniform(0, 480, (50, 2))
    return images[0], images[1], pose


@pytest.mark.parametrize("library", ["poselib", "pycolmap"])
def test_a_pose_is_recovered(library, monkeypatch) -> None:
    if library == "poselib":
        pytest.importorskip("poselib")
    monkeypatch.setattr(stereo, "estimator", lambda: library)
    points0, points1, pose = two_views(np.random.default_rng(0))
    first = stereo.estimate_relative_pose(points0, points1, CAMERA, CAMERA)
    assert first is not None
    assert stereo.pose_error(*first, pose.rotation, pose.translation) < 0.7
    again = stereo.estimate_relative_pose(points0, points1, CAMERA, CAMERA)
    np.testing.assert_array_equal(first[0], again[0])
    assert stereo.estimate_relative_pose(points0[:4], points1[:4], CAMERA, CAMERA) is None


def test_pairs_are_judged_in_pixels_of_colmap(tmp_path: Path) -> None:
    points0, points1, pose = two_views(np.random.default_rng(1))
    features, matches = tmp_path / "f.h5", tmp_path / "m.h5"
    size = np.array([640, 480])
    for name, points in (("a.jpg", points0), ("b.jpg", points1), ("c.jpg", points1)):
        # Files have (0, 0) at the centre of the first pixel.
        keypoints = (points - 0.5).astype(np.float32)
        write_features(features, name, {"keypoints": keypoints, "image_size": size}, 1.0)
    write_matches(matches, ("b.jpg", "a.jpg"), np.arange(200), np.ones(200))
    write_matches(matches, ("a.jpg", "c.jpg"), np.full(200, -1), np.ones(200))
    poses = {"a.jpg": Pose(np.array([1.0, 0, 0, 0]), np.zeros(3)), "b.jpg": pose, "c.jpg": pose}
    cameras = dict.fromkeys(poses, CAMERA)
    pairs = [("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"), ("b.jpg", "unknown.jpg")]
    errors = stereo.pair_errors(features, matches, pairs, cameras, poses)
    assert errors.shape == (2,)
    assert errors[0] < 0.7
    assert errors[1] == np.inf
