"""The native engine on the drawn scene, whose poses are known."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from PIL import Image

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError, NoModel
from disk_hloc.eval.model import pose_errors
from disk_hloc.geometry import rotation_angle
from disk_hloc.io import colmap
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.pipelines import sfm as pipeline
from disk_hloc.stages import extract, match, pairs, reconstruct, triangulate
from support.errors import one_line_error

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


@pytest.fixture(scope="module")
def matched(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features.h5, pairs.txt and matches.h5 of the drawn scene."""
    folder = tmp_path_factory.mktemp("matched")
    conf = {**confs.extractors()["disk"], "model": {"name": "disk", "max_keypoints": 800}}
    extract.main(conf, scene / "images", folder / "features.h5")
    pairs.main("exhaustive", folder / "features.h5", folder / "pairs.txt")
    match.main(
        confs.matchers()["disk"],
        folder / "pairs.txt",
        folder / "features.h5",
        folder / "matches.h5",
    )
    return folder


def files_of(scene: Path, matched: Path) -> tuple[Path, ...]:
    return (
        scene / "images",
        matched / "pairs.txt",
        matched / "features.h5",
        matched / "matches.h5",
    )


@pytest.fixture
def inputs(scene: Path, matched: Path) -> tuple[Path, ...]:
    return files_of(scene, matched)


@pytest.fixture(scope="module")
def default(scene: Path, matched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that these files give without any option; copy it before you change it."""
    sfm = tmp_path_factory.mktemp("default") / "sfm"
    reconstruct.main(sfm, *files_of(scene, matched), engine="native")
    return sfm


@pytest.fixture
def sfm(default: Path, tmp_path: Path) -> Path:
    """A copy of this model, in ``sfm``."""
    return Path(shutil.copytree(default, tmp_path / "sfm"))


def camera_of(scene: Path) -> str:
    model, _, _, parameters = read_camera(scene / "camera.txt")
    return f"{model} {','.join(str(value) for value in parameters)}"


@pytest.mark.parametrize("mapper", ["incremental", "hierarchical", "global"])
def test_known_poses_are_found(scene: Path, inputs, tmp_path: Path, mapper: str) -> None:
    if mapper == "global" and not hasattr(pycolmap, "global_mapping"):
        pytest.skip("this pycolmap has no global mapper")
    sfm = tmp_path / "sfm"
    model = reconstruct.main(
        sfm,
        *inputs,
        engine="native",
        camera=camera_of(scene),
        fix_intrinsics=True,
        mapper=mapper,
    )
    truth = read_poses(scene / "poses.txt")
    errors = pose_errors(model, truth)
    assert errors.missing == []
    assert errors.position.max() < 0.006
    # A tenth of a degree is 0.7 px in these small photos. Compared with the first photo, so that
    # the alignment of centres on an arc does not matter.
    estimated = {i.name: i.cam_from_world().rotation.matrix() for i in model.images.values()}
    first = errors.names[0]
    for name in errors.names[1:]:
        relative = truth[name].rotation @ truth[first].rotation.T
        assert rotation_angle(estimated[name] @ estimated[first].T @ relative.T) < 0.3
    _, _, _, parameters = read_camera(scene / "camera.txt")
    (camera,) = model.cameras.values()
    assert camera.model.name == "PINHOLE"
    assert list(camera.params) == pytest.approx(parameters, abs=1e-6)
    left = {path.name for path in sfm.iterdir()}
    assert {"cameras.bin", "images.bin", "points3D.bin", "database.db"} <= left
    assert pycolmap.Reconstruction(sfm).num_points3D() == model.num_points3D()


def test_every_image_has_the_camera_given_for_it(scene: Path, inputs, tmp_path) -> None:
    model_name, _, _, (fx, fy, cx, cy) = read_camera(scene / "camera.txt")
    # The principal point distinguishes the cameras, and hardly changes the poses.
    given = {f"{i:04}.jpg": f"{model_name} {fx},{fy},{cx + i / 100},{cy}" for i in range(5)}
    model = reconstruct.main(
        tmp_path / "sfm", *inputs, engine="native", cameras=given, fix_intrinsics=True
    )
    assert pose_errors(model, read_poses(scene / "poses.txt")).position.max() < 0.006
    assert len(model.cameras) == 5
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        assert (camera.width, camera.height) == (512, 384)
        assert list(camera.params) == [fx, fy, cx + int(image.name[:4]) / 100, cy]
    with pycolmap.Database.open(tmp_path / "sfm" / "database.db") as database:
        assert all(camera.has_prior_focal_length for camera in database.read_all_cameras())


def test_a_second_run_replaces_the_first(inputs, tmp_path: Path) -> None:
    sfm = tmp_path / "sfm"
    first = reconstruct.main(sfm, *inputs, engine="native", camera_mode="single")
    assert len(first.cameras) == 1
    second = reconstruct.main(sfm, *inputs, engine="native", camera_mode="per-image")
    assert len(second.cameras) == second.num_reg_images() > 1
    assert len(pycolmap.Reconstruction(sfm).cameras) == len(second.cameras)


def test_photos_that_share_nothing_give_no_model(scene: Path, inputs, tmp_path: Path) -> None:
    images, pairs_path, features, _ = inputs
    strict = {"output": "none", "model": {"name": "disk", "distance_threshold": 1e-6}}
    matches = match.main(strict, pairs_path, features, tmp_path / "matches.h5")
    files = tmp_path / "sfm", images, pairs_path, features, matches
    with pytest.raises(DiskHlocError, match=r"could be built: 0 of 10 pairs .* need more overlap"):
        reconstruct.main(*files, engine="native")
    with pytest.raises(DiskHlocError, match=r"focal length of OPENCV_FISHEYE was guessed"):
        reconstruct.main(*files, engine="native", camera="OPENCV_FISHEYE")


def test_options_are_checked_before_anything_is_done(inputs, tmp_path: Path) -> None:
    wrong = [
        ({"engine": "steam"}, "engine"),
        ({"camera_mode": "double"}, "camera mode"),
        ({"camera": "LOMO 1,2"}, "camera model"),
        ({"mapper": "magic"}, "mapper"),
        ({"mapper": "global", "engine": "hloc"}, "hloc has no global mapper"),
        ({"mapper": "hierarchical", "engine": "hloc"}, "hloc has no hierarchical mapper"),
        ({"cameras": {}, "engine": "hloc"}, "one camera for all"),
        ({"cameras": {"0000.jpg": "PINHOLE 1,1,1,1"}}, r"no camera is given for 0001\.jpg"),
    ]
    for options, message in wrong:
        with pytest.raises(DiskHlocError, match=message):
            reconstruct.main(tmp_path / "sfm", *inputs, **options)
    assert not (tmp_path / "sfm").exists()


def test_photos_of_another_size_are_named(inputs, default: Path, tmp_path: Path) -> None:
    images, *files = inputs
    smaller = tmp_path / "images"
    shutil.copytree(images, smaller)
    with Image.open(images / "0001.jpg") as photo:
        photo.resize((256, 192)).save(smaller / "0001.jpg")
    with pytest.raises(DiskHlocError) as error:
        reconstruct.main(tmp_path / "sfm", smaller, *files)
    assert one_line_error(error, smaller, files[1], "0001.jpg (256 x 192 and 512 x 384)")
    with pytest.raises(DiskHlocError) as error:
        pipeline.main(smaller, tmp_path / "out", camera_mode="single", engine="native")
    assert one_line_error(error, smaller, "0001.jpg (256 x 192)", "share one camera")
    assert not (tmp_path / "out" / "features.h5").exists()
    database = Path(shutil.copy(default / "database.db", tmp_path))
    with pytest.raises(DiskHlocError) as error:
        reconstruct.from_database(tmp_path / "again", smaller, database)
    assert one_line_error(error, smaller, database, "0001.jpg (512 x 384 and 256 x 192)")


def test_an_image_without_features_is_named(inputs, tmp_path: Path) -> None:
    images, _, features, matches = inputs
    (tmp_path / "pairs.txt").write_text("0000.jpg absent.jpg\n")
    with pytest.raises(DiskHlocError, match=r"absent\.jpg"):
        reconstruct.main(tmp_path / "sfm", images, tmp_path / "pairs.txt", features, matches)


def test_a_broken_database_is_one_line(scene: Path, sfm: Path, tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    shutil.copy(sfm / "database.db", path)
    model = (sfm / "images.bin").read_bytes()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM keypoints WHERE image_id = 1")
    for folder in (sfm, tmp_path / "new"):
        with pytest.raises(DiskHlocError) as error:
            reconstruct.from_database(folder, scene / "images", path)
        assert one_line_error(error, path, "which has 0 keypoints")
    assert (sfm / "images.bin").read_bytes() == model
    assert not (tmp_path / "new").exists()


def content(sfm: Path) -> dict[str, bytes]:
    return {name: (sfm / name).read_bytes() for name in (*colmap.MODEL_FILES, "database.db")}


def test_the_same_inputs_give_the_same_model(inputs, default: Path, tmp_path: Path) -> None:
    reconstruct.main(tmp_path / "second", *inputs, engine="native")
    assert content(default) == content(tmp_path / "second")


def test_a_failed_run_keeps_the_former_model(inputs, sfm: Path, tmp_path: Path) -> None:
    images, pairs_path, features, _ = inputs
    former = content(sfm)
    strict = {"output": "none", "model": {"name": "disk", "distance_threshold": 1e-6}}
    none = match.main(strict, pairs_path, features, tmp_path / "matches.h5")
    with pytest.raises(NoModel) as raised:
        reconstruct.main(sfm, images, pairs_path, features, none, engine="native")
    assert content(sfm) == former
    assert raised.value.database_path is not None
    assert colmap.read_verified(raised.value.database_path) == {}
    with pytest.raises(DiskHlocError, match="its own copy"):
        reconstruct.from_database(sfm, images, sfm / "database.db")
    with pytest.raises(DiskHlocError):
        triangulate.main(sfm, sfm, images, pairs_path, features, none, engine="native")
    assert content(sfm) == former


def test_a_model_can_be_triangulated_in_its_own_folder(inputs, sfm: Path) -> None:
    images, pairs_path, features, matches = inputs
    reference = colmap.read_model(sfm)
    model = triangulate.main(sfm, sfm, images, pairs_path, features, matches, engine="native")
    assert model.num_points3D() > 0.5 * reference.num_points3D()
    assert colmap.read_model(sfm).num_points3D() == model.num_points3D()


def test_a_model_without_points_is_an_error(inputs, default: Path, tmp_path: Path) -> None:
    path = tmp_path / "absurd.db"
    shutil.copy(default / "database.db", path)
    with closing(sqlite3.connect(path)) as database, database:
        stored = database.execute("SELECT image_id, data FROM keypoints").fetchall()
        for image_id, data in stored:
            keypoints = np.frombuffer(data, np.float32).copy()
            keypoints[np.arange(keypoints.size) % 9 < 8] = 1e30
            query = "UPDATE keypoints SET data = ? WHERE image_id = ?"
            database.execute(query, (keypoints.tobytes(), image_id))
    with pytest.raises(NoModel, match="not one point could be triangulated"):
        reconstruct.from_database(tmp_path / "new", inputs[0], path)
    assert not (tmp_path / "new" / "images.bin").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_while_colmap_works(
    number: int, code: int, scene: Path, inputs, sfm: Path
) -> None:
    _, pairs_path, features, matches = inputs
    former = content(sfm)
    arguments = ["triangulate", sfm, sfm, scene / "images", pairs_path, features, matches]
    process = subprocess.Popen(
        [sys.executable, "-m", "disk_hloc", *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    while not (sfm / "models" / ".partial" / "database.db").exists():
        assert process.poll() is None
        time.sleep(0.001)
    start = time.monotonic()
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - start < 2.5  # half a second for a busy machine
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "***" not in errors
    assert content(sfm) == former
    assert not (sfm / "models" / ".partial").exists()
