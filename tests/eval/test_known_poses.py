"""A model's figures from files: by hand, against pycolmap, and a scene of the ETH benchmark."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import known_poses
from disk_hloc.eval.model import pose_errors
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import read_cameras, read_model
from disk_hloc.io.hloc.poses import write_poses
from support.errors import one_line_error

IDENTITY = np.array([1.0, 0, 0, 0])
# The corners of a square of 2 m.
CORNERS = {"a.jpg": (0, 0), "b.jpg": (2, 0), "c.jpg": (2, 2), "d.jpg": (0, 2)}


def pose(x: float, y: float, z: float = 0) -> Pose:
    return Pose(IDENTITY, -np.array([x, y, z]))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The square, ten times smaller, and one point that two of its images see, 3 and 4 px off."""
    folder = tmp_path / "sfm"
    folder.mkdir()
    (folder / "cameras.txt").write_text("1 PINHOLE 400 400 100 100 200 200\n")
    lines = []
    for i, (name, (x, y)) in enumerate(CORNERS.items(), start=1):
        center = np.array([x, y, 0]) / 10
        # The point lies 1 in front of the first.
        pixel = 200 - 100 * center[:2] + [(3, 0), (0, 4), (0, 0), (0, 0)][i - 1]
        keypoint = f"{pixel[0]} {pixel[1]} {1 if i < 3 else -1}"
        numbers = " ".join(map(str, [*IDENTITY, *-center]))
        lines.append(f"{i} {numbers} 1 {name}\n{keypoint}\n")
    (folder / "images.txt").write_text("".join(lines))
    (folder / "points3D.txt").write_text("1 0 0 1 0 0 0 3.5 1 0 2 0\n")
    return folder


def test_figures_without_poses(model: Path, tmp_path: Path) -> None:
    figures = known_poses.main(model, tmp_path / "out")["figures"]
    assert figures == {
        "images": 4,
        "registered": 4,
        "points3D": 1,
        "observations": 2,
        "mean_track_length": 2,
        "mean_reprojection_error": 3.5,
    }


def test_the_command_by_hand(model: Path, tmp_path: Path) -> None:
    """Opposite corners are lifted by 1 cm, the others lowered; a fifth image is not registered."""
    lifted = {name: pose(x, y, 0.01 if x == y else -0.01) for name, (x, y) in CORNERS.items()}
    write_poses(tmp_path / "poses.txt", {**lifted, "e.jpg": pose(5, 5)})
    out = tmp_path / "out"
    arguments = [str(model), f"--poses={tmp_path / 'poses.txt'}", f"--out={out}"]
    done = CliRunner().invoke(app, ["eval", "model", *arguments])
    assert done.exit_code == 0, done.output
    assert "4 of 5" in done.output
    results = json.loads((out / "results.json").read_text())
    for value in results["figures"]["position_error"].values():
        assert value == pytest.approx(0.01, rel=1e-3)
    for value in results["figures"]["rotation_error"].values():
        assert value == pytest.approx(0, abs=1e-3)
    assert results["errors"][-1] == ["e.jpg", None, None]
    assert "| registered | 4 of 5 |" in (out / "results.md").read_text()
    pytest.importorskip("matplotlib")
    assert (out / "results.png").is_file()


def test_position_errors_against_pycolmaps_alignment(model: Path) -> None:
    if not hasattr(pycolmap, "estimate_sim3d"):
        pytest.skip("this pycolmap estimates no similarity")
    rng = np.random.default_rng(0)
    source = rng.normal(size=(6, 3))
    target = 3 * source[:, [1, 2, 0]] + rng.normal(0, 0.1, (6, 3))
    lines = [f"{i + 1} 1 0 0 0 {-x} {-y} {-z} 1 {i}.jpg\n\n" for i, (x, y, z) in enumerate(source)]
    (model / "images.txt").write_text("".join(lines))
    (model / "points3D.txt").write_text("")
    similarity = pycolmap.estimate_sim3d(source, target)
    aligned = np.array([similarity * point for point in source])
    truth = {f"{i}.jpg": pose(*center) for i, center in enumerate(target)}
    found = pose_errors(read_model(model), truth)
    np.testing.assert_allclose(found.position, np.linalg.norm(aligned - target, axis=1), atol=1e-9)
    assert found.position.min() > 0.001


def test_poses_of_other_images(model: Path, tmp_path: Path) -> None:
    write_poses(tmp_path / "poses.txt", {"x.jpg": pose(0, 0)})
    with pytest.raises(DiskHlocError) as error:
        known_poses.main(model, tmp_path, poses=tmp_path / "poses.txt")
    assert one_line_error(error, tmp_path / "poses.txt", model, "a.jpg")


def test_cameras_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "data base.db"
    with pycolmap.Database.open(path) as database:
        camera = pycolmap.Camera(
            model="SIMPLE_RADIAL", width=640, height=480, params=[500, 320, 240, 0.1]
        )
        camera_id = database.write_camera(camera)
        for name in ("a.jpg", "sub/b.jpg"):
            database.write_image(pycolmap.Image(name=name, camera_id=camera_id))
    before = path.read_bytes()
    expected = "SIMPLE_RADIAL 500.0,320.0,240.0,0.1"
    assert read_cameras(path) == {"a.jpg": expected, "sub/b.jpg": expected}
    assert path.read_bytes() == before
    broken = tmp_path / "broken.db"
    broken.write_text("no database" * 100)
    for bad in (broken, tmp_path / "missing.db"):
        with pytest.raises(DiskHlocError) as error:
            read_cameras(bad)
        assert one_line_error(error, bad)


@pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)
def test_a_scene_of_the_eth_benchmark(scene: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "eth", tmp_path / "out"
    shutil.copytree(scene / "images", folder / "images")
    name, width, height, *parameters = (scene / "camera.txt").read_text().split()[-7:]
    with pycolmap.Database.open(folder / "database.db") as database:
        camera = pycolmap.Camera(
            model=name, width=int(width), height=int(height), params=list(map(float, parameters))
        )
        camera_id = database.write_camera(camera)
        for photo in sorted((folder / "images").iterdir()):
            database.write_image(pycolmap.Image(name=photo.name, camera_id=camera_id))
    before = (folder / "database.db").read_bytes()
    arguments = [str(folder), f"--out={out}", "--extractor=disk-2k"]
    done = CliRunner().invoke(app, ["eval", "eth", *arguments])
    assert done.exit_code == 0, done.output
    figures = json.loads((out / "results.json").read_text())["figures"]
    assert figures["images"] == figures["registered"] == 5
    model = pycolmap.Reconstruction(out / "sfm")
    assert figures["points3D"] == model.num_points3D() > 100
    assert figures["observations"] == model.compute_num_observations()
    assert {str(one.model).rpartition(".")[2] for one in model.cameras.values()} == {name}
    assert (folder / "database.db").read_bytes() == before
    again = known_poses.main(out / "sfm", tmp_path / "again", poses=scene / "poses.txt")["figures"]
    assert again["observations"] == figures["observations"]
    assert again["rotation_error"]["max"] < 1
