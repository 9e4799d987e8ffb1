"""Poses and cameras in text files, compared with pycolmap's rotations."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.hloc.poses import read_camera, read_poses, write_poses
from disk_hloc.io.names import is_relative
from support.errors import one_line_error

numbers = st.floats(-1, 1, allow_subnormal=False)
poses = st.builds(
    lambda q, t: Pose(np.array(q) / np.linalg.norm(q), np.array(t)),
    st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: np.linalg.norm(q) > 1e-3),
    st.tuples(*[st.floats(-1e6, 1e6, allow_subnormal=False)] * 3),
)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n") | st.sampled_from("# \r1"),
    min_size=1,
    max_size=8,
).filter(lambda name: is_relative(name) and PurePosixPath(name).as_posix() == name)


@given(truth=st.dictionaries(names, poses, min_size=1, max_size=5))
@settings(deadline=None)
def test_round_trip(tmp_path_factory, truth):
    path = tmp_path_factory.mktemp("poses") / "poses.txt"
    write_poses(path, truth)
    read = read_poses(path)
    assert list(read) == list(truth)
    for name, pose in read.items():
        np.testing.assert_allclose(pose.quaternion, truth[name].quaternion, rtol=0, atol=2e-11)
        np.testing.assert_allclose(pose.translation, truth[name].translation, rtol=1e-11)


@given(pose=poses)
@settings(deadline=None)
def test_rotation_and_center(pose):
    w, x, y, z = pose.quaternion
    expected = pycolmap.Rotation3d(np.array([x, y, z, w])).matrix()
    np.testing.assert_allclose(pose.rotation, expected, atol=1e-12)
    residual = pose.rotation @ pose.center + pose.translation
    assert np.linalg.norm(residual) <= 1e-12 * (1 + np.linalg.norm(pose.translation))


def test_center_of_a_known_pose():
    # A quarter turn about z: the world's x is the camera's y.
    pose = Pose(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(pose.rotation @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(pose.center, [-2, 1, -3], atol=1e-15)


def test_quaternions_are_normalized_and_comments_are_skipped(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("# name ...\n\nb/ü.jpg 0 0 3 4 1 2 3\n   \na 2 0 0 0 -1 0 1e-3\n")
    read = read_poses(path)
    assert list(read) == ["b/ü.jpg", "a"]
    np.testing.assert_allclose(read["b/ü.jpg"].quaternion, [0, 0, 0.6, 0.8])
    np.testing.assert_allclose(read["a"].quaternion, [1, 0, 0, 0])
    np.testing.assert_allclose(read["a"].translation, [-1, 0, 1e-3])


def test_fountain(data):
    read = read_poses(data / "fountain_p11" / "poses.txt")
    assert list(read) == [f"{i:04d}.jpg" for i in range(11)]
    centers = np.array([pose.center for pose in read.values()])
    # The photographer walked around the fountain on level ground, 1 to 3 m per photo.
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert (steps > 1).all()
    assert (steps < 3).all()
    assert np.ptp(centers, axis=0).min() < 0.5
    for pose in read.values():
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose.rotation) > 0


@pytest.mark.parametrize(
    "line",
    [
        "b.jpg 1 0 0 0 0 0",
        "b.jpg 1 0 0 0 0 1 2 3",
        "b.jpg 1 0 0 0 0 0 x",
        "b.jpg",
        "b.jpg 0 0 0 0 1 2 3",
        "b.jpg nan 0 0 0 1 2 3",
    ],
)
def test_line_that_is_not_a_pose(tmp_path, line):
    path = tmp_path / "poses.txt"
    path.write_text(f"a.jpg 1 0 0 0 0 0 0\n# comment\n{line}\n")
    with pytest.raises(DiskHlocError) as error:
        read_poses(path)
    assert one_line_error(error, path, "line 3:", "name qw qx qy qz tx ty tz")


@pytest.mark.parametrize("read", [read_poses, read_camera])
def test_file_that_cannot_be_read(tmp_path, read):
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "absent.txt", tmp_path, binary):
        with pytest.raises(DiskHlocError) as error:
            read(path)
        assert one_line_error(error, "cannot read", path)


def test_read_camera(tmp_path, data):
    path = tmp_path / "camera.txt"
    path.write_text("# made up\n\nSIMPLE_RADIAL 640 480 500.5 320 240 -0.1\nPINHOLE 1 1 1 1 1 1\n")
    assert read_camera(path) == ("SIMPLE_RADIAL", 640, 480, [500.5, 320.0, 240.0, -0.1])
    model, width, height, parameters = read_camera(data / "fountain_p11" / "camera.txt")
    assert (model, width, height) == ("PINHOLE", 1536, 1024)
    assert len(parameters) == 4


@pytest.mark.parametrize("line", ["PINHOLE", "PINHOLE 640", "PINHOLE 640 x 1 1 1 1", "P 6 4 1 y"])
def test_line_that_is_not_a_camera(tmp_path, line):
    path = tmp_path / "camera.txt"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(DiskHlocError) as error:
        read_camera(path)
    assert one_line_error(error, path, "line 2:", "MODEL width height")


def test_file_without_camera(tmp_path):
    path = tmp_path / "camera.txt"
    path.write_text("# comment\n")
    with pytest.raises(DiskHlocError) as error:
        read_camera(path)
    assert one_line_error(error, path, "no camera")


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_invalid_numbers_and_repeated_names_are_errors(tmp_path, number):
    path = tmp_path / "poses.txt"
    path.write_text(f"a.jpg 1 0 0 0 {number} 0 0\n")
    with pytest.raises(DiskHlocError, match="line 1"):
        read_poses(path)
    path.write_text("a.jpg 1 0 0 0 0 0 0\na.jpg 1 0 0 0 0 0 1\n")
    with pytest.raises(DiskHlocError, match=r"line 2: a\.jpg already has a pose"):
        read_poses(path)


def test_a_name_that_no_list_holds_is_not_written(tmp_path):
    pose = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3))
    with pytest.raises(DiskHlocError, match="line break"):
        write_poses(tmp_path / "poses.txt", {"my\tphoto.jpg": pose})
