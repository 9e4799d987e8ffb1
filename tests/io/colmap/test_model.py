"""Poses and cameras of a model's images."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import cameras_of, poses_of, read_model, registered_images, to_pose
from support.errors import one_line_error


@pytest.fixture
def folder(tmp_path):
    """Two cameras and two images with a pose."""
    (tmp_path / "cameras.txt").write_text(
        "1 PINHOLE 512 384 400 410 256 192\n2 SIMPLE_PINHOLE 640 480 500 320 240\n"
    )
    (tmp_path / "images.txt").write_text(
        "2 0.5 0.5 -0.5 0.5 1 2 3 1 a/b.jpg\n\n1 0.6 0 0.8 0 4 5 6 2 c.jpg\n\n"
    )
    (tmp_path / "points3D.txt").write_text("")
    return tmp_path


def test_poses_and_cameras_by_name(folder):
    model = read_model(folder)
    poses = poses_of(model)
    assert set(poses) == {"a/b.jpg", "c.jpg"}
    np.testing.assert_allclose(poses["a/b.jpg"].quaternion, [0.5, 0.5, -0.5, 0.5])
    np.testing.assert_allclose(poses["a/b.jpg"].translation, [1, 2, 3])
    np.testing.assert_allclose(poses["c.jpg"].quaternion, [0.6, 0, 0.8, 0])
    cameras = cameras_of(model)
    assert {name: camera.width for name, camera in cameras.items()} == {
        "a/b.jpg": 512,
        "c.jpg": 640,
    }
    assert sorted(image.name for image in registered_images(model)) == ["a/b.jpg", "c.jpg"]


def test_a_pose_does_not_change_with_what_it_came_from():
    """pycolmap's arrays may be views of its own memory."""
    rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([1.0, 2, 3]))
    pose = to_pose(rigid)
    rigid.translation = np.zeros(3)
    np.testing.assert_array_equal(pose.translation, [1, 2, 3])


def test_folders_without_a_model(tmp_path, folder):
    with pytest.raises(DiskHlocError) as error:
        read_model(tmp_path / "none")
    assert one_line_error(error, "no COLMAP model", tmp_path / "none")
    (folder / "images.txt").write_text("1 2 3\n")
    with pytest.raises(DiskHlocError) as error:
        read_model(folder)
    assert one_line_error(error, folder)
