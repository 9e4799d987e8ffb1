"""The Image Matching Challenge's calibration files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.calibration import read_calibration, read_calibrations
from support.errors import one_line_error

K = np.array([[800.0, 0, 320.5], [0, 790.0, 240.0], [0, 0, 1]])
R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
T = np.array([0.5, -1, 2])


def write(path: Path, **values) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in {"K": K, "R": R, "T": T, **values}.items():
            if value is not None:
                file[key] = value
    return path


def test_camera_and_pose(tmp_path: Path) -> None:
    write(tmp_path / "calibration_a.h5")
    write(tmp_path / "calibration_b.h5", T=T.reshape(3, 1))
    cameras, poses = read_calibrations(tmp_path, ["a.jpg", "photos/b.png"])
    assert cameras["a.jpg"] == "PINHOLE 800.0,790.0,320.5,240.0"
    for name in ("a.jpg", "photos/b.png"):
        np.testing.assert_allclose(poses[name].rotation, R, atol=1e-12)
        np.testing.assert_array_equal(poses[name].translation, T)


def test_a_real_scene_is_in_front_of_its_cameras(data: Path) -> None:
    """All its cameras look at what lies between them: their axes meet, as x_cam = R x + T says."""
    folder = data / "reichstag"
    names = [path.name for path in sorted((folder / "images").iterdir())]
    _, poses = read_calibrations(folder / "calibration", names)
    axes = np.array([pose.rotation[2] for pose in poses.values()])
    centers = np.array([pose.center for pose in poses.values()])
    projectors = np.eye(3) - axes[:, :, None] * axes[:, None]
    meet = np.linalg.solve(projectors.sum(0), np.einsum("nij,nj->i", projectors, centers))
    assert (((meet - centers) * axes).sum(axis=1) > 0).all()


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "calibration_a.h5")
    with pytest.raises(DiskHlocError) as error:
        read_calibrations(tmp_path, ["a.jpg", "b.jpg"])
    assert one_line_error(error, tmp_path, "1 of 2 images: b.jpg")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"T": None}, "K, R or T is missing"),
        ({"R": np.eye(4)}, "must be (3, 3)"),
        ({"R": 2 * R}, "R is not a rotation"),
        ({"R": -R}, "R is not a rotation"),
        ({"K": K + np.eye(3, k=1)}, "skewed pixels"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, values, reason) -> None:
    path = write(tmp_path / "calibration_a.h5", **values)
    with pytest.raises(DiskHlocError) as error:
        read_calibration(path)
    assert one_line_error(error, path, reason)
