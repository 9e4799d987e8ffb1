"""Points against surfaces: by hand, every kind of truth, and the drawn room."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import triangulation
from disk_hloc.eval.clouds import levels, shares_by_cell
from disk_hloc.eval.truth import read_truth
from disk_hloc.geometry import Pose
from disk_hloc.io.hloc.poses import write_poses
from disk_hloc.io.ply import write_ply
from disk_hloc.io.training.files import write_calibration, write_depth
from disk_hloc.synthetic_room import Camera, Scene, box, look_at, write_scene
from support.errors import one_line_error

# 2 x 2 m in the plane z = 0.
SQUARE = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])
# Off the plane by 0, 1.5, 4 and 30 cm; far from each other. The errors are in pixels.
POINTS = [(0.2, 0.2, 0, 0.5, 3), (0.7, 0.2, 0.015, 0.5, 2), (1.2, 1.2, -0.04, 4, 2)]
POINTS += [(1.7, 1.7, 0.3, 0.5, 2)]
CENTERS = {"a.jpg": (0, 0, 3), "b.jpg": (2, 0, 3), "c.jpg": (2, 2, 3), "d.jpg": (0, 2, 3)}


def write_model(folder: Path, points: list, scale: float = 1, shift: float = 0) -> Path:
    """A model whose cameras look along z, scaled and shifted along x."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("1 PINHOLE 400 400 100 100 200 200\n")
    lines, offset = [], np.array([shift, 0, 0])
    tracks = [range(1, 1 + length) for *_, length in points]
    for i, (name, center) in enumerate(CENTERS.items(), start=1):
        x, y, z = -(scale * np.array(center) + offset)
        seen = [f"100 {100 + j} {j if i in track else -1}" for j, track in enumerate(tracks, 1)]
        lines.append(f"{i} 1 0 0 0 {x} {y} {z} 1 {name}\n{' '.join(seen)}\n")
    (folder / "images.txt").write_text("".join(lines))
    written = []
    for j, (*position, error, _) in enumerate(points, start=1):
        x, y, z = scale * np.array(position) + offset
        track = " ".join(f"{i} {j - 1}" for i in tracks[j - 1])
        written.append(f"{j} {x} {y} {z} 0 0 0 {error} {track}\n")
    (folder / "points3D.txt").write_text("".join(written))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "sfm", POINTS)


@pytest.fixture
def square(tmp_path: Path) -> Path:
    write_ply(tmp_path / "square.ply", SQUARE, FACES)
    return tmp_path / "square.ply"


def run(model: Path, out: Path, *options: str) -> dict:
    done = CliRunner().invoke(app, ["eval", "triangulation", str(model), f"--out={out}", *options])
    assert done.exit_code == 0, done.output
    assert "50.00 %" in done.output
    return json.loads((out / "results.json").read_text())


def test_the_command_by_hand(model: Path, square: Path, tmp_path: Path) -> None:
    found = run(model, tmp_path / "out", f"--truth={square}")
    assert found["thresholds"] == [0.01, 0.02, 0.05]
    assert found["accuracy"] == found["accuracy_of_points"] == [0.25, 0.5, 0.75]
    # A disc in the plane around each point: of 1 cm; of 2 and 1.3 cm; of 5, 4.8 and 3 cm.
    discs = np.pi / 4 * np.array([0.01**2, 0.02**2 + 0.0132**2, 0.05**2 + 0.0477**2 + 0.03**2])
    np.testing.assert_allclose(found["completeness"], discs, rtol=0.3)
    np.testing.assert_allclose(found["completeness"][2], discs[2], rtol=0.05)
    distance = found["distance"]
    assert distance["mean"] == pytest.approx((0 + 0.015 + 0.04 + 0.3) / 4)
    assert distance["median"] == pytest.approx(0.0275)
    # The cut at 4.4 medians leaves out the last.
    assert distance["cut"] == pytest.approx(3 * 1.4826 * 0.0275)
    assert distance["rms"] == pytest.approx(np.sqrt((0.015**2 + 0.04**2) / 3))
    assert distance["within_cut"] == 0.75
    assert found["truth"]["kinds"] == ["mesh"]
    assert found["points"] == found["points3D"] == 4
    assert "| 0.02 | 50.00 % |" in (tmp_path / "out" / "results.md").read_text()


def test_options_choose_the_points(model: Path, square: Path, tmp_path: Path) -> None:
    long = triangulation.main(model, tmp_path, truth=[square], min_track_length=3)
    assert (long["points"], long["accuracy"]) == (1, [1, 1, 1])
    # COLMAP's own errors: those of the keypoints, not of the file.
    with pytest.raises(DiskHlocError) as error:
        triangulation.main(model, tmp_path, truth=[square], max_error=1e-6)
    assert one_line_error(error, model, "--max-reprojection-error")


def test_a_model_in_another_frame_is_aligned(square: Path, tmp_path: Path, caplog) -> None:
    model = write_model(tmp_path / "other", POINTS, scale=3, shift=10)
    triangulation.main(model, tmp_path / "out", truth=[square])
    assert "--poses" in caplog.text
    truth = {name: Pose(np.array([1.0, 0, 0, 0]), -np.array(c)) for name, c in CENTERS.items()}
    write_poses(tmp_path / "poses.txt", truth)
    found = run(model, tmp_path / "out", f"--truth={square}", f"--poses={tmp_path / 'poses.txt'}")
    assert found["accuracy"] == [0.25, 0.5, 0.75]
    assert found["aligned"] == {"scale": pytest.approx(1 / 3), "images": 4}
    write_poses(tmp_path / "poses.txt", {"a.jpg": truth["a.jpg"]})
    with pytest.raises(DiskHlocError) as error:
        triangulation.main(model, tmp_path, truth=[square], poses=tmp_path / "poses.txt")
    assert one_line_error(error, model, tmp_path / "poses.txt")


def test_scans_with_the_poses_of_a_project(model: Path, tmp_path: Path) -> None:
    """Half of the square in each of two scans, which the project puts in place."""
    x, y = np.meshgrid(np.arange(0.005, 1, 0.01), np.arange(0.005, 2, 0.01))
    half = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    meshes = ""
    for i, shift in enumerate(([0, 0, 0], [1, 0, 0])):
        # In the scan's frame, p = R^T (p_world - t).
        write_ply(tmp_path / f"scan{i}.ply", (half + shift - [5, 0, 1]) @ turn, np.empty((0, 3)))
        rows = np.vstack([np.column_stack([turn, [5, 0, 1]]), [0, 0, 0, 1]])
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        meshes += f'<MLMesh label="s" filename="scan{i}.ply"><MLMatrix44>{text} </MLMatrix44>'
        meshes += "</MLMesh>"
    project = tmp_path / "scan_alignment.mlp"
    project.write_text(
        "<!DOCTYPE MeshLabDocument>\n<MeshLabProject><MeshGroup>"
        f"{meshes}</MeshGroup></MeshLabProject>"
    )
    found = triangulation.main(model, tmp_path / "out", truth=[project])
    # Points are between those of the scan.
    assert found["accuracy"] == [0.25, 0.5, 0.75]
    assert found["truth"] == {"kinds": ["scan"], "points": 40000}
    whole = np.concatenate([half, half + np.array([1, 0, 0])])
    offsets = whole[:, None] - np.array(POINTS)[:, :3]
    nearest = np.linalg.norm(offsets, axis=2).min(axis=1)
    # A cell holds one point of the scan, up to rounding at the edges of the second grid.
    shares = [(nearest <= threshold).mean() for threshold in (0.01, 0.02, 0.05)]
    np.testing.assert_allclose(found["completeness"], shares, rtol=0.2)
    exact = triangulation.main(model, tmp_path / "out", truth=[project], cell=0)
    np.testing.assert_allclose(exact["completeness"], shares, atol=1e-6)
    project.write_text(project.read_text().replace("-1.0", "-2.0"))
    with pytest.raises(DiskHlocError) as error:
        triangulation.main(model, tmp_path / "out", truth=[project])
    assert one_line_error(error, project, "scan0.ply")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texture = np.full((8, 8, 3), 99, np.uint8)
    faces = ("south", "east", "north", "west", "top")
    block = box("block", (0, 0, 0.3), (0.4, 0.5, 0.6), dict.fromkeys(faces, texture))
    poses = np.stack([look_at((x, -2, 1.2), (0.1, 0, 0.3)) for x in (-1, 0, 1)])
    return write_scene(
        tmp_path_factory.mktemp("drawn"),
        scene=Scene(tuple(block)), size=(64, 48), cam_from_world=poses, depth=True,
    )  # fmt: skip


def test_depth_maps_lie_on_the_mesh_of_the_drawn_scene(drawn: Path, tmp_path: Path) -> None:
    """Every kind of depth map and reference."""
    mesh = read_truth([drawn])
    assert mesh.kinds == ["mesh"]
    assert mesh.surface is not None
    assert mesh.surface.areas().sum() == pytest.approx(2 * 0.6 * 0.9 + 0.2)
    camera = Camera.from_size(64, 48)
    for name in ("0000", "0001", "0002"):
        depth = np.load(drawn / "depth" / f"{name}.npy")
        write_depth(tmp_path / "h5", f"{name}.jpg", depth)
        header = f"{depth.shape[1]}&{depth.shape[0]}&1&".encode()
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin" / f"{name}.jpg.geometric.bin"
        path.write_bytes(header + depth.astype("<f4").tobytes())
    poses = [line.split() for line in (drawn / "poses.txt").read_text().splitlines()[1:]]
    (tmp_path / "sfm").mkdir()
    numbers = f"{camera.fx} {camera.fy} {camera.cx} {camera.cy}"
    (tmp_path / "sfm" / "cameras.txt").write_text(f"1 PINHOLE 64 48 {numbers}\n")
    (tmp_path / "sfm" / "points3D.txt").write_text("")
    lines = [f"{i} {' '.join(pose)} 1 {name}\n\n" for i, (name, *pose) in enumerate(poses, 1)]
    (tmp_path / "sfm" / "images.txt").write_text("".join(lines))
    for name, *pose in poses:
        values = np.array(pose, float)
        rotation = Pose(values[:4], values[4:]).rotation
        write_calibration(tmp_path / "calib", name, camera.matrix, rotation, values[4:])
    clouds = [
        read_truth([folder], reference).cloud
        for folder, reference in (
            (drawn / "depth", drawn),
            (tmp_path / "h5", tmp_path / "calib"),
            (tmp_path / "bin", tmp_path / "sfm"),
        )
    ]
    assert len(clouds[0]) > 400
    assert mesh.distances(clouds[0]).max() < 1e-5
    for cloud in clouds[1:]:
        np.testing.assert_allclose(cloud, clouds[0], atol=1e-5)
    # Maps of other photos.
    (tmp_path / "narrow").mkdir()
    for path in (drawn / "depth").iterdir():
        np.save(tmp_path / "narrow" / path.name, np.load(path)[:, :47])
    with pytest.raises(DiskHlocError) as error:
        read_truth([tmp_path / "narrow"], drawn)
    assert one_line_error(error, tmp_path / "narrow", "47 x 48", "64 x 48")
    with pytest.raises(DiskHlocError) as error:
        read_truth([drawn / "depth"])
    assert one_line_error(error, drawn / "depth", "--depth-cameras")
    with pytest.raises(DiskHlocError) as error:
        read_truth([tmp_path / "calib"], drawn)
    assert one_line_error(error, tmp_path / "calib", "0000.jpg")


def test_wrong_input_is_named(model: Path, square: Path, tmp_path: Path) -> None:
    stl = tmp_path / "room.stl"
    stl.write_bytes(b"\0" * 80 + struct.pack("<I", 0))
    empty = write_model(tmp_path / "empty", [])
    for folder, truth, options, said in (
        (model, stl, {}, (stl, "not a PLY file")),
        (empty, square, {}, (empty, "no points")),
        (tmp_path, square, {}, (tmp_path, "no COLMAP model")),
        (model, square, {"thresholds": [0.1, -1]}, ("positive",)),
        (model, square, {"cell": 1e-8}, ("--cell",)),
    ):
        with pytest.raises(DiskHlocError) as error:
            triangulation.main(folder, tmp_path / "out", truth=[truth], **options)
        assert one_line_error(error, *said)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cell=st.sampled_from([0.05, 0.3, 2.0]))
def test_shares_by_cell_against_dictionaries(seed: int, cell: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (200, 3)) ** 3
    distances = rng.exponential(1, 200)
    level = levels(distances, [0.5, 1.5])
    shares = []
    for shift in (0, 0.5):
        cells: dict[tuple, list[float]] = {}
        for point, distance in zip(points, distances, strict=True):
            cells.setdefault(tuple(np.floor(point / cell + shift)), []).append(distance)
        shares += [[np.mean(np.array(c) <= t) for t in (0.5, 1.5)] for c in cells.values()]
    expected = np.mean(shares, axis=0)
    np.testing.assert_allclose(shares_by_cell(points, level, 2, cell), expected)
    # Doubling a part of a cloud changes nothing, if it is alone in its cells.
    far = np.concatenate([points, points + 1000, points + 1000])
    once = np.concatenate([points, points + 1000])
    assert shares_by_cell(far, np.tile(level, 3), 2, 0.25) == pytest.approx(
        shares_by_cell(once, np.tile(level, 2), 2, 0.25)
    )
