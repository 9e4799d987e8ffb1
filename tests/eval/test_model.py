"""Alignment, angles and pose errors against what is known by construction."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.model import pose_errors, summarize
from disk_hloc.geometry import Pose
from disk_hloc.io.hloc.poses import read_poses

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-3, 3).map(lambda exponent: 10**exponent)


def random_quaternion(rng):
    q = rng.normal(size=4)
    return q / np.linalg.norm(q)


def matrix(q):
    return pycolmap.Rotation3d(np.array([*q[1:], q[0]])).matrix()


def quaternion(rotation):
    x, y, z, w = pycolmap.Rotation3d(rotation).quat
    return np.array([w, x, y, z])


def about(axis, radians):
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(radians) * cross + 2 * np.sin(radians / 2) ** 2 * cross @ cross


def write_model(folder, poses):
    """COLMAP's text files of a model with these cam_from_world, read again."""
    (folder / "cameras.txt").write_text("1 PINHOLE 512 384 400 400 256 192\n")
    lines = []
    for i, (name, pose) in enumerate(poses.items(), start=1):
        values = [*pose.quaternion, *pose.translation]
        # The empty line is of the image's keypoints: none.
        lines.append(f"{i} {' '.join(f'{value:.17g}' for value in values)} 1 {name}\n\n")
    (folder / "images.txt").write_text("".join(lines))
    (folder / "points3D.txt").write_text("")
    return pycolmap.Reconstruction(folder)


def moved(pose, scale, rotation, translation):
    """The same pose in another frame: X' = scale * rotation @ X + translation."""
    new_rotation = pose.rotation @ rotation.T
    center = scale * rotation @ pose.center + translation
    return Pose(quaternion(new_rotation), -new_rotation @ center)


def random_poses(rng, count=6):
    return {f"{i}.jpg": Pose(random_quaternion(rng), rng.uniform(-5, 5, 3)) for i in range(count)}


# pose_errors


@given(seed=seeds, scale=scales)
@settings(deadline=None, max_examples=25)
def test_no_error_under_a_similarity(tmp_path_factory, seed, scale):
    rng = np.random.default_rng(seed)
    truth = random_poses(rng)
    rotation, translation = matrix(random_quaternion(rng)), rng.uniform(-10, 10, 3)
    poses = {name: moved(pose, scale, rotation, translation) for name, pose in truth.items()}
    errors = pose_errors(write_model(tmp_path_factory.mktemp("model"), poses), truth)
    assert errors.names == sorted(truth)
    assert errors.missing == []
    assert errors.position.shape == errors.rotation.shape == (len(truth),)
    # Only as exact as the centre is from a translation far away.
    assert errors.position.max() < 1e-10 * (1 + 100 / scale)
    assert errors.rotation.max() < 1e-6 * (1 + 1e-3 / scale)


def test_no_error_of_the_drawn_scene(tmp_path, scene):
    truth = read_poses(scene / "poses.txt")
    poses = {
        name: moved(pose, 0.3, about((1, 2, 3), 2), np.array([5, -4, 3]))
        for name, pose in truth.items()
    }
    errors = pose_errors(write_model(tmp_path, poses), truth)
    assert len(errors.names) == 5
    assert errors.position.max() < 1e-9
    assert errors.rotation.max() < 1e-6


def test_a_turned_camera_is_the_only_one_with_an_error(tmp_path):
    truth = random_poses(np.random.default_rng(1))
    poses = {name: moved(pose, 7, np.eye(3), np.ones(3)) for name, pose in truth.items()}
    # Turned about its own centre.
    turn = about((1, 1, 0), np.radians(0.5))
    turned = turn @ poses["2.jpg"].rotation
    poses["2.jpg"] = Pose(quaternion(turned), -turned @ poses["2.jpg"].center)
    errors = pose_errors(write_model(tmp_path, poses), truth)
    assert errors.position.max() < 1e-9
    np.testing.assert_allclose(errors.rotation, [0, 0, 0.5, 0, 0, 0], atol=1e-6)


def test_positions_are_in_the_unit_of_the_known_poses(tmp_path):
    """Corners of a square, two opposite ones lifted by 1 cm and two lowered, built 50x smaller."""
    square = [(0, 0, 0.01), (2, 0, -0.01), (2, 2, 0.01), (0, 2, -0.01)]
    one = np.array([1.0, 0, 0, 0])
    truth = {f"{i}.jpg": Pose(one, -np.array([x, y, 0.0])) for i, (x, y, _) in enumerate(square)}
    poses = {f"{i}.jpg": Pose(one, -np.array(center) / 50) for i, center in enumerate(square)}
    errors = pose_errors(write_model(tmp_path, poses), truth)
    np.testing.assert_allclose(errors.position, 0.01, rtol=1e-4)
    np.testing.assert_allclose(errors.rotation, 0, atol=1e-6)


def test_missing_images_are_listed_and_unknown_ones_ignored(tmp_path):
    poses = random_poses(np.random.default_rng(2))
    truth = {name: poses[name] for name in ("5.jpg", "0.jpg", "3.jpg", "1.jpg")}
    registered = {name: pose for name, pose in poses.items() if name not in ("5.jpg",)}
    errors = pose_errors(write_model(tmp_path, registered), {**truth, "9.jpg": poses["2.jpg"]})
    assert errors.names == ["0.jpg", "1.jpg", "3.jpg"]
    assert errors.missing == ["5.jpg", "9.jpg"]
    assert errors.position.max() < 1e-9


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_known_images(tmp_path, count):
    poses = random_poses(np.random.default_rng(3))
    truth = dict(list(poses.items())[:count])
    model = write_model(tmp_path, poses)
    with pytest.raises(DiskHlocError) as error:
        pose_errors(model, truth)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{count} registered images")


# summarize


def test_figures_of_a_model(tmp_path):
    """Three images; a point seen by three of them and one seen by two, each off by 3 and 4 px."""
    poses = random_poses(np.random.default_rng(4), 3)
    write_model(tmp_path, poses)
    one = np.array([1.0, 0, 0, 0])
    poses = {name: Pose(one, np.array([float(name[0]), 0, 0])) for name in poses}
    lines = []
    for i, (name, pose) in enumerate(poses.items(), start=1):
        x = 256 + 400 * pose.translation[0] / 4
        tx = pose.translation[0]
        keypoints = f"{x + 3} 196 1 {x} 192 {2 if i < 3 else -1}"
        lines.append(f"{i} 1 0 0 0 {tx} 0 0 1 {name}\n{keypoints}\n")
    (tmp_path / "images.txt").write_text("".join(lines))
    (tmp_path / "points3D.txt").write_text("1 0 0 4 0 0 0 5 1 0 2 0 3 0\n2 0 0 4 0 0 0 0 1 1 2 1\n")
    model = pycolmap.Reconstruction(tmp_path)
    model.update_point_3d_errors()
    assert summarize(model, 5) == {
        "images": 5,
        "registered": 3,
        "points3D": 2,
        "observations": 5,
        "mean_track_length": 2.5,
        "mean_reprojection_error": 2.5,
    }
