"""The covariance of poses, compared with the spread of poses under noise that is drawn again."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from disk_hloc.localizer import covariance, pose
from disk_hloc.localizer.covariance import View

CAMERA = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=[600, 320, 240])
TURN = Rotation.from_rotvec([0.3, -0.5, 0.2])
TRANSLATION = np.array([0.5, 0.3, 1.0])
NUM_DRAWS = 80


@pytest.fixture(scope="module")
def seen() -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) keypoints without noise and the (N, 3) points that they see."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform([0, 0], [640, 480], (120, 2))
    in_cam = np.column_stack([(pixels - [320, 240]) / 600, np.ones(120)])
    in_cam *= rng.uniform(4, 20, (120, 1))
    return pixels, TURN.inv().apply(in_cam - TRANSLATION)


def difference(found: pycolmap.Rigid3d) -> np.ndarray:
    turn = Rotation.from_matrix(found.rotation.matrix()) * TURN.inv()
    return np.concatenate([turn.as_rotvec(), found.translation - TRANSLATION])


@pytest.mark.parametrize("sigma", [0.25, 1.0])
@pytest.mark.parametrize("focal_length", ["known", "guessed"])
def test_agrees_with_repeated_noise(
    sigma: float, focal_length: str, seen: tuple[np.ndarray, np.ndarray]
) -> None:
    keypoints, points = seen
    rng = np.random.default_rng(1)
    camera = CAMERA
    if focal_length == "guessed":
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=640, height=480, params=[590, 320, 240]
        )
    differences, found = [], []
    for _ in range(NUM_DRAWS):
        noisy = keypoints + rng.normal(0, sigma, keypoints.shape)
        estimate = pose.estimate(noisy, points, camera, focal_length=focal_length)
        assert estimate is not None
        assert estimate.covariance is not None
        differences.append(difference(estimate.cam_from_world))
        found.append(estimate.covariance)
    spread, mean = np.cov(np.array(differences).T), np.mean(found, axis=0)
    for one in found:
        np.testing.assert_array_equal(one, one.T)
        assert np.linalg.eigvalsh(one).min() > 0
    # Of a covariance of 80 draws, a standard deviation is known to 8 %.
    np.testing.assert_allclose(np.sqrt(np.diag(mean)), np.sqrt(np.diag(spread)), rtol=0.25)
    # How a turn and a translation go together, too: 6 numbers whose squares have the mean 1.
    scaled = np.einsum("ni,ij,nj->n", differences, np.linalg.inv(mean), differences)
    assert scaled.mean() == pytest.approx(6, rel=0.3)


def test_of_the_center_is_that_of_drawn_poses() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6)) * 1e-4
    drawn = rng.normal(size=(20000, 6)) @ root.T
    centers = [
        -(Rotation.from_rotvec(one[:3]) * TURN).inv().apply(TRANSLATION + one[3:]) for one in drawn
    ]
    expected = np.cov(np.array(centers).T)
    found = covariance.of_center(TURN.as_matrix(), TRANSLATION, root @ root.T)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_of_a_rig_is_as_of_one_photo(seen: tuple[np.ndarray, np.ndarray]) -> None:
    """Half of the keypoints in each of two photos at the same place."""
    keypoints, points = seen
    keypoints = keypoints + np.random.default_rng(2).normal(0, 0.5, keypoints.shape)
    at = pycolmap.Rigid3d(pycolmap.Rotation3d(TURN.as_matrix()), TRANSLATION)
    whole = covariance.of_pose(at, [View(pycolmap.Rigid3d(), CAMERA, keypoints, points)])
    halves = [
        View(pycolmap.Rigid3d(), CAMERA, keypoints[part], points[part])
        for part in (slice(0, 50), slice(50, 120))
    ]
    assert whole is not None
    np.testing.assert_allclose(covariance.of_pose(at, halves), whole)
    turned = pycolmap.Rigid3d(pycolmap.Rotation3d([0.5, 0.5, 0.5, 0.5]), np.array([1.0, 2, 3]))
    rig = turned.inverse() * at
    moved = covariance.of_pose(rig, [View(turned, CAMERA, keypoints, points)])
    # About the axes of the rig, and where its origin is: another covariance, of the same size.
    assert moved is not None
    by_cam = turned.rotation.matrix()
    np.testing.assert_allclose(by_cam @ moved[:3, :3] @ by_cam.T, whole[:3, :3], rtol=1e-4)


def test_points_that_do_not_determine_a_pose_have_none(
    seen: tuple[np.ndarray, np.ndarray],
) -> None:
    keypoints, points = seen
    at = pycolmap.Rigid3d(pycolmap.Rotation3d(TURN.as_matrix()), TRANSLATION)

    def of(index: list[int]) -> np.ndarray | None:
        view = View(pycolmap.Rigid3d(), CAMERA, keypoints[index], points[index])
        return covariance.of_pose(at, [view])

    assert of([0, 1, 2]) is None
    assert of([0] * 20) is None
    assert of([]) is None
    assert of([0, 1, 2, 3]) is not None
