"""A database that COLMAP would crash on is one line."""

from __future__ import annotations

import shutil
import sqlite3
import tracemalloc
from contextlib import closing

import numpy as np
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap.check_database import database_errors, require_sound_database
from support.errors import one_line_error


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Three images with 20, 30 and 10 keypoints, and the matches of two pairs."""
    path = tmp_path_factory.mktemp("sound") / "database.db"
    rng = np.random.default_rng(0)
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=64, height=48, params=[50, 32, 24, 0])
    with pycolmap.Database.open(path) as database:
        camera_id = database.write_camera(camera)
        for i, count in enumerate((20, 30, 10), start=1):
            image = pycolmap.Image(name=f"{i}.jpg", camera_id=camera_id)
            image_id = database.write_image(image)
            assert image_id == i
            database.write_keypoints(i, rng.uniform(0, 48, (count, 2)).astype(np.float32))
        matches = np.stack([np.arange(10), np.arange(10)], axis=1).astype(np.uint32)
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        geometry.inlier_matches = matches
        for pair in ((1, 2), (1, 3)):
            database.write_matches(*pair, matches)
        database.write_two_view_geometry(1, 2, geometry)
    return path


@pytest.fixture
def changed(sound, tmp_path):
    """Change a copy of the database by statements of SQL."""

    def change(*statements):
        path = tmp_path / "database.db"
        shutil.copy(sound, path)
        with closing(sqlite3.connect(path)) as database, database:
            for statement in statements:
                database.execute(*statement if isinstance(statement, tuple) else (statement,))
        return path

    return change


def test_a_sound_database_passes(sound):
    before = sound.read_bytes()
    require_sound_database(sound)
    assert sound.read_bytes() == before


def test_rows_without_data_pass(changed):
    require_sound_database(
        changed(
            "UPDATE matches SET rows = 0, data = NULL",
            "UPDATE two_view_geometries SET rows = 0, data = x'', config = 1",
        )
    )


def test_a_database_from_before_rigs_passes(changed):
    tables = ("rigs", "rig_sensors", "frames", "frame_data", "pose_priors")
    require_sound_database(changed(*(f"DROP TABLE {table}" for table in tables)))


INDEX = np.array([[4_000_000_000, 0]] * 10, np.uint32).tobytes()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (("UPDATE matches SET data = ?", (INDEX,)), "keypoint 4000000000 of 1.jpg, which has 20"),
        (("UPDATE two_view_geometries SET data = ?", (INDEX,)), "two_view_geometries, pair"),
        ("DELETE FROM keypoints WHERE image_id = 1", "which has 0 keypoints"),
        ("UPDATE keypoints SET rows = 10 WHERE image_id = 1", "keypoints of image 1 (1.jpg)"),
        ("UPDATE keypoints SET rows = -1", "-1 rows"),
        ("UPDATE keypoints SET cols = 3", "3 columns, expected 2 or 4 or 6"),
        ("UPDATE keypoints SET rows = 1 << 60", "bytes of data"),
        ("UPDATE keypoints SET data = 'text'", "0 bytes of data"),
        (("UPDATE keypoints SET data = ?", (np.full(40, np.nan, np.float32).tobytes(),)), "image"),
        ("UPDATE matches SET cols = 3", "3 columns, expected 2"),
        ("UPDATE matches SET rows = 'many'", "'many' rows"),
        ("UPDATE matches SET pair_id = 5 WHERE pair_id % 2147483647 = 2", "there is no image 0"),
        ("UPDATE matches SET pair_id = -5 WHERE pair_id % 2147483647 = 2", "there is no image"),
        (
            "UPDATE matches SET pair_id = 3 * 2147483647 + 2 WHERE pair_id % 2147483647 = 2",
            "images 3 and 2 are not in COLMAP's order",
        ),
        ("UPDATE cameras SET model = 99", "no camera model 99"),
        ("UPDATE cameras SET params = x'00'", "SIMPLE_RADIAL has 4 parameters"),
        (
            ("UPDATE cameras SET params = ?", (np.full(4, np.inf).tobytes(),)),
            "a parameter is not finite",
        ),
        ("UPDATE cameras SET width = 0", "an image size of 0 x 48"),
        ("UPDATE cameras SET height = 'tall'", "'tall' is not an integer"),
        ("UPDATE images SET camera_id = 7", "there is no camera 7"),
        ("UPDATE images SET name = '../../' || name", "'../../1.jpg'"),
        ("UPDATE images SET name = x'ff' WHERE image_id = 1", "is not text"),
        ("UPDATE two_view_geometries SET config = 99", "no configuration 99"),
        ("UPDATE two_view_geometries SET F = x'00'", "F is a blob of 1 bytes instead of 72"),
        ("DROP TABLE keypoints", "the table keypoints is missing"),
        ("ALTER TABLE matches RENAME COLUMN data TO dat", "no column data"),
        ("CREATE VIEW v AS SELECT 1", "a view v"),
    ],
)
def test_what_colmap_would_crash_on(changed, statement, said):
    path = changed("PRAGMA ignore_check_constraints = ON", statement)
    with pytest.raises(DiskHlocError) as error:
        require_sound_database(path)
    assert one_line_error(error, path, said)


RIGS = (
    "INSERT INTO rigs VALUES (1, 1, 0)",
    *(f"INSERT INTO frames VALUES ({i}, 1)" for i in (1, 2, 3)),
    *(f"INSERT INTO frame_data VALUES ({i}, {i}, 1, 0)" for i in (1, 2, 3)),
)


def test_rigs_and_frames_pass(changed):
    require_sound_database(changed(*RIGS))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM frame_data WHERE data_id = 2", "image 2 (2.jpg) is not in a frame"),
        ("UPDATE frames SET rig_id = 2 WHERE frame_id = 3", "image 3 (3.jpg) is not in a frame"),
        ("UPDATE rigs SET ref_sensor_id = 2", "image 1 (1.jpg) is not in a frame"),
        ("UPDATE frame_data SET frame_id = 1", "frame 1 has two images of one camera"),
        ("DROP TABLE frame_data", "the table frame_data has no column"),
    ],
)
def test_broken_rigs_and_frames(changed, statement, said):
    path = changed(*RIGS, statement)
    with pytest.raises(DiskHlocError) as error:
        require_sound_database(path)
    assert one_line_error(error, path, said)


@pytest.mark.parametrize("content", [b"", b"no database" * 100])
def test_other_files(content, tmp_path):
    path = tmp_path / "database.db"
    path.write_bytes(content)
    with pytest.raises(DiskHlocError) as error:
        require_sound_database(path)
    assert one_line_error(error, path)
    assert path.read_bytes() == content


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(DiskHlocError, match="there is no database"):
        require_sound_database(tmp_path / "database.db")
    assert not (tmp_path / "database.db").exists()


def test_memory_does_not_grow_with_the_database(changed):
    # 400 pairs of 20,000 matches each are 64 MB.
    count, images = 20_000, 400
    path = changed(
        "DELETE FROM matches",
        "DELETE FROM two_view_geometries",
        *(f"DELETE FROM {table}" for table in ("rigs", "frames", "frame_data")),
        "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{images + 9}) INSERT INTO images SELECT i, i || '.jpg', 1 FROM n",
        f"INSERT INTO keypoints SELECT image_id, {count}, 2, zeroblob({8 * count}) FROM images "
        "WHERE image_id > 9",
        f"INSERT INTO matches SELECT 10 * 2147483647 + image_id, {count}, 2, "
        f"zeroblob({8 * count}) FROM images WHERE image_id > 10",
    )
    size = path.stat().st_size
    assert size > 120 << 20
    tracemalloc.start()
    require_sound_database(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 50


def test_colmap_words_are_one_line(tmp_path):
    with (
        pytest.raises(DiskHlocError) as error,
        database_errors(tmp_path / "database.db"),
    ):
        raise ValueError("[x.cc:1] Check failed:\n y")
    assert one_line_error(error, "database.db", "Check failed: y")
