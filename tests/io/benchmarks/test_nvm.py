"""VisualSFM's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.nvm import read_nvm
from disk_hloc.io.colmap import cam_from_world


def test_a_model_is_that_of_colmap(data: Path) -> None:
    folder = data / "mini_aachen" / "3D-models"
    model = read_nvm(folder / "aachen_cvpr2018_db.nvm", folder / "database_intrinsics.txt")
    expected = pycolmap.Reconstruction(folder / "aachen_v_1_1")
    assert model.num_points3D() == expected.num_points3D()
    assert model.compute_num_observations() == expected.compute_num_observations()
    poses = {image.name: cam_from_world(image).matrix() for image in expected.images.values()}
    assert len(poses) == 8
    for image in model.images.values():
        np.testing.assert_allclose(cam_from_world(image).matrix(), poses[image.name], atol=1e-7)
    # Its keypoints are where its points are seen.
    for point in list(model.points3D.values())[::100]:
        for element in point.track.elements:
            image = model.images[element.image_id]
            fx, fy, cx, cy = model.cameras[image.camera_id].params
            x, y, z = cam_from_world(image) * point.xyz
            seen = np.array([fx * x / z + cx, fy * y / z + cy])
            assert np.abs(seen - image.points2D[element.point2D_idx].xy).max() < 4


def test_broken_files_are_named(tmp_path: Path) -> None:
    nvm, cameras = tmp_path / "model.nvm", tmp_path / "cameras.txt"
    cameras.write_text("a.jpg PINHOLE 640 480 500 500 320 240\n")
    for text, problem in (
        ("", "truncated"),
        ("NVM_V4\n1\n", "does not start"),
        ("NVM_V3\n\n2\na.jpg 500 1 0 0 0 0 0 0 0 0\n", "truncated"),
        ("NVM_V3\n\n1\nb.jpg 500 1 0 0 0 0 0 0 0 0\n0\n", "no intrinsics of b.jpg"),
        ("NVM_V3\n\n1\na.jpg 500 1 0 0 0 0 0 0 0 0\n1\n0 0 5 1 2 3 1 0 0\n", "truncated"),
    ):
        nvm.write_text(text)
        with pytest.raises(DiskHlocError, match=problem):
            read_nvm(nvm, cameras)
