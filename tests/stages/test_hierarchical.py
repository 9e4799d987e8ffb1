"""Clusters are mapped in processes or by workers, and their models are joined."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import align
from disk_hloc.io import colmap
from disk_hloc.parallel.clusters import spread
from disk_hloc.stages import cluster_mapping, hierarchical, joining, mapping

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "SyntheticDatasetOptions"), reason="this pycolmap draws no models"
)


def draw(path: Path, cameras: int, frames: int) -> pycolmap.Reconstruction:
    """Write a database of a rig's photos with exact verified matches; return what they show."""
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(path) as database:
        options = pycolmap.SyntheticDatasetOptions(
            num_rigs=1, num_cameras_per_rig=cameras, num_frames_per_rig=frames, num_points3D=300
        )
        return pycolmap.synthesize_dataset(options, database)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pycolmap.Reconstruction]:
    path = tmp_path_factory.mktemp("drawn") / "database.db"
    return path, draw(path, 1, 24)


@pytest.fixture
def divided(
    drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[cluster_mapping.Cluster]:
    monkeypatch.setattr(cluster_mapping, "CLUSTER_SIZE", 10)
    return hierarchical.divide(
        drawn[0], tmp_path / "clusters", tmp_path / "logs", fix_intrinsics=False
    )


def assert_same(model: pycolmap.Reconstruction, truth: pycolmap.Reconstruction) -> None:
    """Check that a model has all photos of the truth, each in its place up to a similarity."""
    poses, expected = colmap.poses_of(model), colmap.poses_of(truth)
    assert poses.keys() == expected.keys()
    names = sorted(poses)
    centers = np.array([poses[name].center for name in names])
    targets = np.array([expected[name].center for name in names])
    scale, rotation, translation = align(centers, targets)
    error = np.linalg.norm(scale * centers @ rotation.T + translation - targets, axis=1)
    assert error.max() < 1e-3 * np.ptp(targets, axis=0).max()


@pytest.mark.parametrize("dask", [None, "local:2"])
def test_joined_clusters_are_the_model(drawn, divided, tmp_path: Path, dask: str | None) -> None:
    assert len(divided) > 2
    assert sum(cluster.own for cluster in divided) == 24
    cluster_mapping.map_clusters(divided, spread(dask))
    (tmp_path / "scratch").mkdir()
    models = hierarchical.join(divided, tmp_path / "scratch")
    assert len(models) == 1
    assert_same(models[0], drawn[1])
    # No point was lost at a seam, or is there twice.
    assert models[0].num_points3D() == pytest.approx(drawn[1].num_points3D(), rel=0.02)


HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA locking_mode=EXCLUSIVE")
database.execute("BEGIN EXCLUSIVE")
print(flush=True)
sys.stdin.read()
"""


def test_a_database_that_another_process_opens_is_waited_for(drawn, tmp_path: Path) -> None:
    path, truth = drawn
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        other.stdout.readline()
        with pytest.raises(RuntimeError, match="database factory"):
            pycolmap.incremental_mapping(path, tmp_path, tmp_path)
        timer = threading.Timer(0.3, other.stdin.close)
        timer.start()
        (model,) = mapping.run(path, tmp_path, 24, mapping.options(24, False))
        timer.join()
    assert model.num_reg_images() == truth.num_reg_images()


def test_photos_of_a_frame_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = draw(tmp_path / "database.db", 2, 12)
    monkeypatch.setattr(cluster_mapping, "CLUSTER_SIZE", 5)
    found = hierarchical.divide(
        tmp_path / "database.db", tmp_path / "clusters", tmp_path / "logs", fix_intrinsics=False
    )
    assert len(found) > 2
    assert sum(cluster.own for cluster in found) == 24
    frame_of = {image.name: image.frame_id for image in model.images.values()}
    for cluster in found:
        counts = Counter(frame_of[name] for name in cluster.names)
        assert set(counts.values()) == {2}


def part_of(model: pycolmap.Reconstruction, numbers: range) -> pycolmap.Reconstruction:
    """Return a copy of a model with some of its photos, in a frame of its own."""
    names = sorted(colmap.poses_of(model))
    kept = {names[i] for i in numbers}
    part = pycolmap.Reconstruction(model)
    for image in colmap.registered_images(part):
        if image.name not in kept:
            part.deregister_frame(image.frame_id)
    turned = pycolmap.Rotation3d(np.array([0.1, 0.2 * len(kept), 0.3]))
    part.transform(pycolmap.Sim3d(0.5 + 0.1 * len(kept), turned, np.arange(3.0)))
    return part


def test_models_are_brought_into_one_frame(drawn) -> None:
    _, truth = drawn
    parts = [
        part_of(truth, range(0, 12)),
        part_of(truth, range(9, 20)),
        part_of(truth, range(18, 24)),
    ]
    (joined,) = joining.join(parts)
    assert_same(joined, truth)
    assert joined.num_points3D() == truth.num_points3D()
    joined.update_point_3d_errors()
    assert joined.compute_mean_reprojection_error() < 0.01


def test_models_without_a_common_photo_stay_apart(drawn) -> None:
    _, truth = drawn
    parts = [part_of(truth, range(0, 12)), part_of(truth, range(12, 20))]
    assert [model.num_reg_images() for model in joining.join(parts)] == [12, 8]


def test_models_that_disagree_stay_apart(drawn) -> None:
    """Half of the shared points are somewhere else: what two places that look alike give."""
    _, truth = drawn
    parts = [part_of(truth, range(0, 12)), part_of(truth, range(9, 20))]
    rng = np.random.default_rng(0)
    for number, point in enumerate(parts[1].points3D.values()):
        if number % 5:
            point.xyz = point.xyz + rng.normal(0, 5, 3)
    assert len(joining.join(parts)) == 2


def test_a_photo_in_a_wrong_place_is_left_out(drawn) -> None:
    _, truth = drawn
    parts = [part_of(truth, range(0, 12)), part_of(truth, range(9, 24))]
    last = max(colmap.poses_of(truth))
    wrong = parts[1].find_image_with_name(last)
    pose = wrong.cam_from_world()
    wrong.frame.set_cam_from_world(
        wrong.camera_id, pycolmap.Rigid3d(pose.rotation, pose.translation + np.array([40.0, 0, 0]))
    )
    (joined,) = joining.join(parts)
    assert last not in colmap.poses_of(joined)
    assert joined.num_reg_images() == 23


def test_a_worker_that_does_not_see_the_files_says_so(divided) -> None:
    with pytest.raises(DiskHlocError, match="all machines share"):
        cluster_mapping.map_one(divided[0])  # the folder is made by map_clusters


def test_mapped_clusters_are_not_mapped_again(divided, caplog) -> None:
    mapped: list[cluster_mapping.Cluster] = []

    def stopped_after_two(found):
        for number, cluster in enumerate(cluster_mapping.in_processes(found)):
            if number == 2:
                raise KeyboardInterrupt
            mapped.append(cluster)
            yield cluster

    with pytest.raises(KeyboardInterrupt):
        cluster_mapping.map_clusters(divided, stopped_after_two)
    done = {cluster.folder: (cluster.folder / "models").stat().st_ino for cluster in mapped}
    # The photos of one of them are others now.
    changed = mapped[0].folder / "names.txt"
    changed.write_text("another.jpg\n")
    left: list[cluster_mapping.Cluster] = []

    def noted(found):
        left.extend(found)
        return cluster_mapping.in_processes(found)

    with caplog.at_level("INFO"):
        cluster_mapping.map_clusters(divided, noted)
    assert mapped[0] in left
    assert mapped[1] not in left
    assert "mapped before" in caplog.text
    assert (mapped[1].folder / "models").stat().st_ino == done[mapped[1].folder]
    assert all(any((cluster.folder / "models").iterdir()) for cluster in divided)
