"""Known poses and cameras, from each of the files that have them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.reference import read_reference
from support.errors import one_line_error

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def write_poses(path: Path, names: list[str]) -> Path:
    path.write_text("".join(f"{name} 1 0 0 0 {i} 0 0\n" for i, name in enumerate(names)))
    return path


def test_poses_of_the_photos_are_read_and_others_ignored(tmp_path: Path) -> None:
    poses = write_poses(tmp_path / "poses.txt", ["b.jpg", "elsewhere.jpg", "a.jpg"])
    reference = read_reference(poses, "PINHOLE 500,600,320,240", NAMES)
    assert set(reference.poses) == {"a.jpg", "b.jpg"}
    assert reference.poses["a.jpg"].translation[0] == 2
    assert reference.cameras is None
    cameras = reference.known_cameras()
    assert cameras is not None
    assert list(cameras) == NAMES
    assert all(list(camera.params) == [500, 600, 320, 240] for camera in cameras.values())


@pytest.mark.parametrize("camera", [None, "SIMPLE_RADIAL"])
def test_without_parameters_no_camera_is_known(tmp_path: Path, camera: str | None) -> None:
    for poses in (None, write_poses(tmp_path / "poses.txt", NAMES)):
        reference = read_reference(poses, camera, NAMES)
        assert reference.camera == camera
        assert reference.known_cameras() is None


def test_calibration_files_have_a_camera_for_each_photo(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        with h5py.File(tmp_path / f"calibration_{name}.h5", "w") as file:
            file["K"] = np.array([[100.0 + i, 0, 50], [0, 100, 40], [0, 0, 1]])
            file["R"], file["T"] = np.eye(3), np.array([i, 0.0, 0.0])
    reference = read_reference(tmp_path, None, NAMES)
    assert [pose.translation[0] for pose in reference.poses.values()] == [0, 1, 2]
    cameras = reference.known_cameras()
    assert cameras is not None
    assert [cameras[name].params[0] for name in NAMES] == [100, 101, 102]
    with pytest.raises(DiskHlocError) as error:
        read_reference(tmp_path, "PINHOLE 1,1,1,1", NAMES)
    assert one_line_error(error, tmp_path, "leave --camera out")


def test_too_few_poses_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        read_reference(write_poses(tmp_path / "poses.txt", ["a.jpg", "x.jpg"]), None, NAMES)
    assert one_line_error(error, "poses.txt", "poses of 1 of the photos", "a.jpg", "at least two")
