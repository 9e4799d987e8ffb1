"""What a run that was stopped leaves is used by one with the same inputs only."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pycolmap
import pytest

from disk_hloc.io import colmap
from disk_hloc.stages import cluster_mapping, reconstruct, unfinished

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "SyntheticDatasetOptions"), reason="this pycolmap draws no models"
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of 24 photos with matches that are not verified."""
    path = tmp_path / "database.db"
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(path) as opened:
        options = pycolmap.SyntheticDatasetOptions(
            num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=24, num_points3D=300
        )
        pycolmap.synthesize_dataset(options, opened)
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("DELETE FROM two_view_geometries")
        opened.commit()
    return path


def test_the_folder_is_that_of_equal_inputs(database: Path, tmp_path: Path) -> None:
    parent = tmp_path / "clusters"
    first = unfinished.place(parent, database, fix_intrinsics=False)
    copy = tmp_path / "copy.db"
    colmap.copy_database(database, copy)
    assert unfinished.place(parent, copy, fix_intrinsics=False) == first
    unfinished.keep(first, database)
    other = unfinished.place(parent, database, fix_intrinsics=True)
    assert other != first
    assert list(parent.iterdir()) == [other]
    with closing(sqlite3.connect(copy)) as opened:
        opened.execute("UPDATE keypoints SET data = zeroblob(length(data)) WHERE image_id = 3")
        opened.commit()
    assert unfinished.place(parent, copy, fix_intrinsics=True) != other


def test_a_stopped_run_is_resumed(database: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    photos, out = tmp_path / "photos", tmp_path / "sfm"
    draw_photos(database, photos)
    monkeypatch.setattr(cluster_mapping, "CLUSTER_SIZE", 10)

    def stopped(found):
        yield next(cluster_mapping.in_processes(found))
        raise KeyboardInterrupt

    def run(spread=cluster_mapping.in_processes):
        return reconstruct.from_database(
            out, photos, database, mapper="hierarchical", spread=spread
        )

    with pytest.raises(KeyboardInterrupt):
        run(stopped)
    assert not (out / "images.bin").exists()
    (kept,) = (out / "clusters").iterdir()
    assert (kept / colmap.DATABASE).is_file()
    with caplog.at_level("INFO"):
        resumed = run()
    assert "pairs are verified already" in caplog.text
    assert "of them were mapped before" in caplog.text
    assert not (out / "clusters").exists()
    assert not (out / "clusters.LOG").exists()
    shutil.rmtree(out)
    caplog.clear()
    whole = run()
    assert "Resuming" not in caplog.text
    assert resumed.num_reg_images() == whole.num_reg_images() == 24
    assert resumed.num_points3D() == pytest.approx(whole.num_points3D(), rel=0.01)


def draw_photos(database: Path, folder: Path) -> None:
    from PIL import Image

    for name, size in colmap.read_sizes(database).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(folder / name, format="PNG")
