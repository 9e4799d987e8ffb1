"""Photos that are added to a map: what they gain, and what stays as it was."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from PIL import ExifTags, Image

from disk_hloc.errors import Busy, DiskHlocError
from disk_hloc.geometry import align
from disk_hloc.io import colmap
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.map_folder import MapFolder, read_map
from disk_hloc.io.map_index import MapIndex, read_current, read_index
from disk_hloc.io.output_folder import claimed
from disk_hloc.localizer import Localizer
from disk_hloc.pipelines import map_add, map_build
from disk_hloc.stages import map_info
from support.errors import one_line_error
from support.map_runs import add_until
from support.processes import processes
from support.small_confs import write_sift

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)

OLD = [f"{i:04d}.png" for i in (1, 2, 4, 5, 7, 8)]
# Turned on its side; of another camera; as those of the map.
TURNED, FOREIGN, PLAIN = NEW = [f"{i:04d}.png" for i in (3, 6, 9)]
CAMERA = ("Maker", "Model")


def store(data: Path, folder: Path, names: list[str]) -> Path:
    """Write small photos of a fountain, with the camera and its focal length in their EXIF data."""
    folder.mkdir()
    for name in names:
        exif = Image.Exif()
        maker, model = CAMERA if name != FOREIGN else ("Other", "Other")
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = maker, model
        block = exif.get_ifd(ExifTags.IFD.Exif)
        block[ExifTags.Base.FocalLength] = 32.0
        block[ExifTags.Base.FocalLengthIn35mmFilm] = 32
        with Image.open(data / "fountain_p11" / "images" / name.replace("png", "jpg")) as image:
            small = np.asarray(image.convert("RGB").resize((480, 320)))
        Image.fromarray(np.rot90(small, name == TURNED)).save(folder / name, exif=exif.tobytes())
    return folder


@pytest.fixture(scope="module")
def former(data: Path, tmp_path_factory: pytest.TempPathFactory) -> MapFolder:
    """A map of six photos, by an extractor without a network and of few keypoints."""
    folder = tmp_path_factory.mktemp("former")
    conf = write_sift(folder, max_keypoints=600)
    photos = store(data, folder / "photos", OLD)
    made = map_build.main(photos, folder / "map", extractor=conf, engine="native")
    # As if the map were in metres.
    origin = {"latitude": 57.7, "longitude": 12.0, "altitude": 30.0}
    made.georeference.write_text(json.dumps({"origin": origin}))
    assert list(index_of(made.path).names) == OLD
    return made


@pytest.fixture(scope="module")
def photos(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three new photos, and one that the map has."""
    return store(data, tmp_path_factory.mktemp("new") / "photos", [*NEW, OLD[0]])


@pytest.fixture(scope="module")
def growth(
    former: MapFolder, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """The map with the new photos, and how many seconds it took to add them."""
    folder = tmp_path_factory.mktemp("grown") / "map"
    shutil.copytree(former.path, folder)
    begin = time.monotonic()
    report = map_add.main(folder, photos, device="cpu")
    seconds = time.monotonic() - begin
    assert report == {"added": NEW, "skipped": [OLD[0]], "missing": {}, "unreadable": {}}
    return folder, seconds


@pytest.fixture
def grown(growth: tuple[Path, float]) -> Path:
    return growth[0]


def index_of(folder: Path) -> MapIndex:
    return read_index(read_map(folder).index)


def content(folder: Path) -> dict[str, bytes]:
    """All files but caches, logs and locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".", "colmap.LOG"))
    }


def test_poses_and_points_of_before_stay_to_the_bit(former: MapFolder, grown: Path) -> None:
    before, after = (colmap.read_model(read_map(path).model) for path in (former.path, grown))
    index, larger = index_of(former.path), index_of(grown)
    assert sorted([*OLD, *NEW]) == list(larger.names)
    for i, name in enumerate(index.names):
        assert np.array_equal(index.poses[i], larger.poses[larger.names.index(name)])
    assert {k: dict(v) for k, v in index.cameras.items()}.items() <= larger.cameras.items()
    for image_id, image in before.images.items():
        for one, other in zip(image.points2D, after.images[image_id].points2D, strict=True):
            assert np.array_equal(one.xy, other.xy)
            if one.has_point3D():
                assert other.point3D_id == one.point3D_id
    ids = {image.image_id for image in after.images.values() if image.name in NEW}
    moved = 0
    for point_id, point in before.points3D.items():
        now = after.points3D[point_id]
        if ids.isdisjoint(element.image_id for element in now.track.elements):
            assert np.array_equal(point.xyz, now.xyz)
        moved += not np.array_equal(point.xyz, now.xyz)
    assert 0 < moved < len(before.points3D)
    assert after.num_points3D() > before.num_points3D()


def test_new_poses_are_true(data: Path, grown: Path) -> None:
    index = index_of(grown)
    truth = {
        name.replace("jpg", "png"): pose
        for name, pose in read_poses(data / "fountain_p11" / "poses.txt").items()
    }
    centers = np.array([index.pose(i).center for i in range(len(index.names))])
    true = np.array([truth[name].center for name in index.names])
    old = [i for i, name in enumerate(index.names) if name in OLD]
    scale, rotation, translation = align(centers[old], true[old])
    errors = np.linalg.norm(scale * centers @ rotation.T + translation - true, axis=1)
    assert errors.max() < 0.05


def test_cameras_are_shared_by_device_and_photos_turned_as_the_map(grown: Path) -> None:
    index = index_of(grown)
    camera_of = dict(zip(index.names, index.camera_ids, strict=True))
    assert camera_of[PLAIN] == camera_of[OLD[0]] != camera_of[FOREIGN]
    # A photo on its side has another size, so another camera.
    assert camera_of[TURNED] not in (camera_of[OLD[0]], camera_of[FOREIGN])
    assert [name for name, turn in zip(index.names, index.turns, strict=True) if turn] == [TURNED]
    assert index.turns.max() == 3


def test_the_map_stays_a_map(former: MapFolder, grown: Path, photos: Path) -> None:
    made = read_map(grown)
    assert made.georeference.read_bytes() == former.georeference.read_bytes()
    assert [path.name for path in grown.glob("model-*")] == ["model-2"]
    assert {made.thumbnail(name).name for name in [*OLD, *NEW]} == {
        path.name for path in (grown / "thumbnails").iterdir()
    }
    found = Localizer(grown, device="cpu").localize(photos / PLAIN)
    assert found.localized
    assert found.retrieved[0].name == PLAIN
    assert found.retrieved[0].similarity > 0.9
    info = map_info.main(grown)
    assert (info["photos"], info["format"], info["turned"]) == (9, 1, 1)
    assert info["georeference"] == {"latitude": 57.7, "longitude": 12.0, "altitude": 30.0}
    assert sum(camera["photos"] for camera in info["cameras"]) == 9
    parts = dict(info["bytes"])
    total = parts.pop("total")
    assert sum(parts.values()) <= total
    # Again there is nothing to do.
    before = content(grown)
    report = map_add.main(grown, photos, device="cpu")
    assert report["added"] == []
    assert content(grown) == before


def test_photos_of_another_place_leave_the_map_as_it_was(
    former: MapFolder, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(former.path, tmp_path / "map")
    other = tmp_path / "photos"
    other.mkdir()
    shutil.copy(sorted((data / "sacre_coeur" / "images").iterdir())[0], other / "a.jpg")
    before = content(tmp_path / "map")
    with pytest.raises(DiskHlocError) as error:
        map_add.main(tmp_path / "map", other, device="cpu")
    assert one_line_error(error, "none of 1 photos could be added", "a.jpg: ")
    assert content(tmp_path / "map") == before


def test_what_cannot_be_added_is_refused(
    former: MapFolder, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(former.path)
    other = tmp_path / "photos"
    other.mkdir()
    shutil.copy(photos / PLAIN, other / OLD[1])
    with pytest.raises(DiskHlocError) as error:
        map_add.main(former.path, other, device="cpu")
    assert one_line_error(error, other / OLD[1], f"is another photo than {OLD[1]} of", former.path)
    with pytest.raises(DiskHlocError) as error:
        map_add.main(former.path, former.path / "thumbnails", device="cpu")
    assert one_line_error(error, f"{former.path}/thumbnails is in the map")
    with pytest.raises(DiskHlocError) as error:
        map_add.main(tmp_path, photos, device="cpu")
    assert one_line_error(error, "it is not a map")
    with claimed(former.path), pytest.raises(Busy):
        map_add.main(former.path, photos, device="cpu")
    (other / OLD[1]).unlink()
    shutil.copy(photos / OLD[0], other)
    with caplog.at_level(logging.INFO, logger="disk_hloc"):
        assert map_add.main(former.path, other, device="cpu")["skipped"] == [OLD[0]]
    assert f"1 photos are in the map already: {OLD[0]}" in caplog.text
    assert content(former.path) == before


def test_kills_leave_the_map_as_it_was(
    former: MapFolder,
    growth: tuple[Path, float],
    photos: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """Killed at random moments, a map answers as before or as after, and adding goes on."""
    chance = random.Random(0)
    folder = tmp_path / "map"
    shutil.copytree(former.path, folder)
    grown, duration = growth
    states = [answers(former.path), answers(grown)]
    kills = pytestconfig.getoption("--kills") // 24
    while True:
        process = processes.Process(
            target=map_add.main, args=(folder, photos), kwargs={"device": "cpu"}
        )
        begin = time.monotonic()
        process.start()
        process.join(60 if kills <= 0 else chance.uniform(0, duration))
        ended = process.exitcode is not None
        process.kill()
        process.join(30)
        now = answers(folder)
        assert now in states
        if ended:
            assert process.exitcode == 0
            assert now == states[1]
            duration = min(duration, time.monotonic() - begin)
            if kills <= 0:
                break
            shutil.rmtree(folder)
            shutil.copytree(former.path, folder)
        elif now == states[1]:  # killed after the commit
            shutil.rmtree(folder)
            shutil.copytree(former.path, folder)
        kills -= not ended
    assert content(folder) == content(grown)


@pytest.mark.parametrize("point", ["its model is there", "it counts"])
def test_kills_while_the_larger_map_is_made(
    point: str, former: MapFolder, grown: Path, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "map"
    shutil.copytree(former.path, folder)
    process = processes.Process(target=add_until, args=(point, folder, photos))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert {path.name for path in folder.glob("model-*")} == {"model-1", "model-2"}
    assert answers(folder) == answers(grown if point == "it counts" else former.path)
    map_add.main(folder, photos, device="cpu")
    assert content(folder) == content(grown)


def answers(folder: Path) -> dict[str, bytes]:
    """All that a localizer reads of a map."""
    made = read_map(folder)
    read_current(folder)
    return {
        "georeference": made.georeference.read_bytes(),
        "codebook": (folder / "global.codebook.npz").read_bytes(),
        **content(made.index),
    }


def test_a_map_is_read_whole_while_it_grows(former: MapFolder, tmp_path: Path) -> None:
    folder = tmp_path / "map"
    shutil.copytree(former.path, folder)
    done = threading.Event()

    def grow() -> None:
        for _ in range(20):
            larger = read_map(folder).next_model()
            shutil.copytree(read_map(folder).model, larger.model)
            larger.commit()
        done.set()

    thread = threading.Thread(target=grow)
    thread.start()
    models = set()
    while not done.is_set():
        made, index, frame = read_current(folder)
        assert list(index.names) == OLD
        assert frame is not None
        models.add(made.model_name)
    thread.join()
    assert len(models) > 1
