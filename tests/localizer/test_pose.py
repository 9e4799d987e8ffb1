"""Which poses are those of chance."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from disk_hloc.localizer import pose

CAMERA = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=[600, 320, 240])


def scene(count: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) keypoints in the middle part of the photo and (N, 3) points that they see."""
    rng = np.random.default_rng(0)
    pixels = [320, 240] + spread * rng.uniform([-310, -230], [310, 230], (count, 2))
    rays = np.column_stack([(pixels - [320, 240]) / 600, np.ones(count)])
    return pixels, rays * rng.uniform(4, 9, (count, 1))


def with_outliers(keypoints: np.ndarray, points: np.ndarray, count: int):
    """Append matches of keypoints anywhere with points anywhere."""
    rng = np.random.default_rng(1)
    others = scene(count)[1][rng.permutation(count)]
    pixels = rng.uniform([0, 0], [640, 480], (count, 2))
    return np.concatenate([keypoints, pixels]), np.concatenate([points, others])


@pytest.mark.parametrize("focal_length", ["known", "unknown"])
def test_a_pose_among_many_outliers_is_sound(focal_length: str) -> None:
    found = pose.estimate(*with_outliers(*scene(60), 300), CAMERA, focal_length=focal_length)
    assert found is not None
    assert found.is_sound
    assert found.inliers[:60].all()
    np.testing.assert_allclose(found.cam_from_world.matrix(), np.eye(3, 4), atol=0.01)


def test_a_pose_of_outliers_alone_is_not() -> None:
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(400)
        keypoints, points = scene(400)
        for focal_length in ("known", "unknown"):
            found = pose.estimate(keypoints, points[order], CAMERA, focal_length=focal_length)
            assert found is None or not found.is_sound


@pytest.mark.parametrize("scale", [1, 4])
def test_what_agrees_in_one_place_counts_once(scale: int) -> None:
    """60 inliers in a 150th of the photo are no more than 15 others, whatever its size."""
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=640 * scale, height=480 * scale,
        params=[600 * scale, 320 * scale, 240 * scale],
    )  # fmt: skip

    def of(spread: float) -> pose.Estimate:
        keypoints, points = with_outliers(*scene(60, spread), 300)
        found = pose.estimate(keypoints * scale, points, camera)
        assert found is not None
        assert found.inliers[:60].sum() > 50
        return found

    few, many = of(0.08), of(1.0)
    assert not few.is_sound
    assert many.is_sound
    assert many.log10_chance < 2 * few.log10_chance


def test_a_focal_length_that_no_camera_has_is_not_sound() -> None:
    """Unless it was given."""
    keypoints, points = scene(60)
    points = points * [1e-2, 1e-2, 1]
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=640, height=480, params=[60000, 320, 240]
    )
    for focal_length, chance in (("known", -50), ("guessed", 0)):
        found = pose.estimate(keypoints, points, camera, focal_length=focal_length)
        assert found is not None
        assert found.inliers.all()
        assert found.is_sound == (focal_length == "known")
        assert found.log10_chance <= chance


def test_too_few_keypoints_have_no_pose() -> None:
    keypoints, points = scene(3)
    assert pose.estimate(keypoints, points, CAMERA) is None
    assert pose.estimate_rig([keypoints], [points], [CAMERA], [pycolmap.Rigid3d()]) is None
    four = pose.estimate(*scene(4), CAMERA)
    assert four is None or not four.is_sound
