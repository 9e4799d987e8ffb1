"""Relative poses of pairs, estimated by two libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from disk_hloc.eval import accuracy, estimators, stereo
from disk_hloc.geometry import Pose
from support.hloc_files import write_features, write_matches

CAMERA = pycolmap.Camera(model="PINHOLE", width=640, height=480, params=[500, 510, 320, 240])


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
    monkeypatch.setattr(estimators, "estimator", lambda: library)
    points0, points1, pose = two_views(np.random.default_rng(0))
    first = estimators.estimate_relative_pose(points0, points1, CAMERA, CAMERA)
    assert first is not None
    assert accuracy.pose_error(*first, pose.rotation, pose.translation) < 0.7
    again = estimators.estimate_relative_pose(points0, points1, CAMERA, CAMERA)
    np.testing.assert_array_equal(first[0], again[0])
    assert estimators.estimate_relative_pose(points0[:4], points1[:4], CAMERA, CAMERA) is None


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
