"""What reaches a COLMAP database, read back with pycolmap."""

from __future__ import annotations

import shutil

import numpy as np
import pycolmap
import pytest
from PIL import ExifTags, Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import (
    add_images,
    create_database,
    import_features_and_matches,
    keep_images,
)
from disk_hloc.io.hloc.poses import read_camera
from support.errors import one_line_error
from support.hloc_files import write_features, write_matches

NAMES = ["0000.jpg", "0001.jpg", "0002.jpg"]


@pytest.fixture
def features(tmp_path):
    """A features file of three images with 20, 30 and no keypoints."""
    rng = np.random.default_rng(0)
    keypoints = {
        name: rng.uniform(-0.5, 383, (count, 2)).astype(np.float32)
        for name, count in zip(NAMES, (20, 30, 0), strict=True)
    }
    for name, array in keypoints.items():
        arrays = {"keypoints": array, "image_size": np.array([512, 384])}
        write_features(tmp_path / "features.h5", name, arrays, 1.0)
    return keypoints


@pytest.fixture
def database(tmp_path, scene):
    path = tmp_path / "database.db"
    return path, create_database(path, scene / "images", NAMES, "single", None)


def tables(path, ids):
    with pycolmap.Database.open(path) as database:
        keypoints = {
            name: database.read_keypoints(image_id)
            for name, image_id in ids.items()
            if database.exists_keypoints(image_id)
        }
        matches = {
            (a, b): database.read_matches(ids[a], ids[b])
            for a in ids
            for b in ids
            if a != b and database.exists_matches(ids[a], ids[b])
        }
    return keypoints, matches


# create_database


def test_photos_that_lost_their_maker_share_a_camera(tmp_path, scene):
    """The same focal lengths and size are one camera; another zoom is another."""
    for i, source in enumerate(sorted((scene / "images").iterdir())):
        exif = Image.Exif()
        block = exif.get_ifd(ExifTags.IFD.Exif)
        if i < 4:
            block[ExifTags.Base.FocalLength] = 4.3 if i < 3 else 8.6
            block[ExifTags.Base.FocalLengthIn35mmFilm] = 35 if i < 3 else 70
        with Image.open(source) as image:
            image.save(tmp_path / f"{i}.jpg", exif=exif)
    names = [f"{i}.jpg" for i in range(5)]
    ids = create_database(tmp_path / "database.db", tmp_path, names, "auto", None)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        cameras = {image.name: image.camera_id for image in database.read_all_images()}
        focal = {
            name: database.read_camera(camera_id).focal_length
            for name, camera_id in cameras.items()
        }
    assert set(ids) == set(names)
    assert cameras["0.jpg"] == cameras["1.jpg"] == cameras["2.jpg"]
    assert len({cameras["0.jpg"], cameras["3.jpg"], cameras["4.jpg"]}) == 3
    assert focal["3.jpg"] == pytest.approx(2 * focal["0.jpg"])


@pytest.mark.parametrize(
    ("mode", "num_cameras"), [("single", 1), ("per-folder", 2), ("per-image", 4)]
)
def test_camera_modes(tmp_path, scene, mode, num_cameras):
    names = ["left/a.jpg", "left/b.jpg", "right/a.jpg", "right/ü.jpg"]
    for name, source in zip(names, sorted((scene / "images").iterdir()), strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / name)
    path = tmp_path / "database.db"
    ids = create_database(path, tmp_path, names, mode, None)
    assert set(ids) == set(names)
    with pycolmap.Database.open(path) as database:
        cameras = database.read_all_cameras()
        images = {image.name: image for image in database.read_all_images()}
    assert len(cameras) == num_cameras
    assert {(camera.width, camera.height) for camera in cameras} == {(512, 384)}
    assert {name: image.image_id for name, image in images.items()} == ids
    assert len({image.camera_id for image in images.values()}) == num_cameras
    if mode == "per-folder":
        assert images["left/a.jpg"].camera_id == images["left/b.jpg"].camera_id


def test_known_camera_and_only_the_named_images(tmp_path, scene):
    model, _, _, parameters = read_camera(scene / "camera.txt")
    camera = f"{model} {','.join(map(str, parameters))}"
    path = tmp_path / "database.db"
    ids = create_database(path, scene / "images", NAMES[::-1], "single", camera)
    assert set(ids) == set(NAMES)
    with pycolmap.Database.open(path) as database:
        (stored,) = database.read_all_cameras()
    assert stored.model.name == model
    np.testing.assert_array_equal(stored.params, parameters)


def test_former_database_is_removed(tmp_path, scene):
    path = tmp_path / "database.db"
    create_database(path, scene / "images", NAMES, "per-image", None)
    ids = create_database(path, scene / "images", NAMES[:2], "single", None)
    assert set(ids) == set(NAMES[:2])
    with pycolmap.Database.open(path) as database:
        assert len(database.read_all_cameras()) == 1


def test_images_that_colmap_cannot_read(tmp_path, scene):
    shutil.copy(scene / "images" / NAMES[0], tmp_path)
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(DiskHlocError) as error:
        create_database(tmp_path / "d.db", tmp_path, [NAMES[0], "broken.jpg"], "single", None)
    assert one_line_error(error, "cannot read photos of", tmp_path, "broken.jpg (")


# import_features_and_matches


def test_keypoints_are_half_a_pixel_further(tmp_path, database, features):
    path, ids = database
    match_path = tmp_path / "matches.h5"
    write_matches(match_path, (NAMES[0], NAMES[1]), np.full(20, -1), np.zeros(20))
    pairs = [(NAMES[0], NAMES[1])]
    import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, match_path)
    keypoints, _ = tables(path, ids)
    for name in NAMES:
        stored = keypoints.get(name, np.zeros((0, 2), np.float32))
        assert len(stored) == len(features[name])
        np.testing.assert_array_equal(stored[:, :2], features[name] + np.float32(0.5))


@pytest.mark.parametrize("stored_reversed", [False, True])
@pytest.mark.parametrize("asked_reversed", [False, True])
def test_matches_keep_their_orientation(
    tmp_path, database, features, stored_reversed, asked_reversed
):
    path, ids = database
    a, b = NAMES[:2]
    expected = np.array([[0, 25], [3, 4], [19, 29]])
    stored, indices = ((b, a), expected[:, ::-1]) if stored_reversed else ((a, b), expected)
    matches0 = np.full(len(features[stored[0]]), -1)
    matches0[indices[:, 0]] = indices[:, 1]
    match_path = tmp_path / "matches.h5"
    write_matches(match_path, stored, matches0, np.ones(len(matches0)))
    pairs = [(b, a) if asked_reversed else (a, b)]
    import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, match_path)
    _, matches = tables(path, ids)
    assert sorted(map(tuple, matches[a, b].tolist())) == sorted(map(tuple, expected.tolist()))
    np.testing.assert_array_equal(matches[b, a], matches[a, b][:, ::-1])


def test_empty_keypoints_and_matches_are_accepted(tmp_path, database, features):
    path, ids = database
    a, b, empty = NAMES
    match_path = tmp_path / "matches.h5"
    write_matches(match_path, (a, empty), np.full(20, -1), np.zeros(20))
    write_matches(match_path, (empty, b), np.zeros(0, int), np.zeros(0))
    write_matches(match_path, (a, b), np.arange(20), np.ones(20))
    pairs = [(a, empty), (empty, b), (a, b)]
    import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, match_path)
    keypoints, matches = tables(path, ids)
    assert len(keypoints.get(empty, ())) == 0
    assert len(matches.get((a, empty), ())) == 0
    assert len(matches.get((empty, b), ())) == 0
    np.testing.assert_array_equal(matches[a, b], np.stack([np.arange(20)] * 2, axis=1))


def test_matches_file_without_a_pair(tmp_path, database, features):
    path, ids = database
    a, b, c = NAMES
    match_path = tmp_path / "matches.h5"
    write_matches(match_path, (a, b), np.arange(20), np.ones(20))
    pairs = [(a, b), (b, c)]
    with pytest.raises(DiskHlocError) as error:
        import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, match_path)
    assert one_line_error(error, match_path, f"has no pair {b} {c}", "match these pairs")


@pytest.mark.parametrize("absent", ["features.h5", "matches.h5"])
def test_file_that_is_not_there(tmp_path, database, features, absent):
    path, ids = database
    pair = tuple(NAMES[:2])
    write_matches(tmp_path / "matches.h5", pair, np.arange(20), np.ones(20))
    (tmp_path / absent).unlink()
    with pytest.raises(DiskHlocError) as error:
        import_features_and_matches(
            path, ids, tmp_path / "features.h5", [pair], tmp_path / "matches.h5"
        )
    assert one_line_error(error, "no file", tmp_path / absent)


@pytest.mark.parametrize("matches0", [[30], [-1] * 20 + [0], [5, -1, 32000]])
@pytest.mark.parametrize("step", [1, -1])
def test_matches_of_other_features(tmp_path, database, features, matches0, step):
    path, ids = database
    match_path = tmp_path / "matches.h5"
    write_matches(match_path, tuple(NAMES[:2]), np.array(matches0), np.ones(len(matches0)))
    pair = tuple(NAMES[:2][::step])
    with pytest.raises(DiskHlocError) as error:
        import_features_and_matches(path, ids, tmp_path / "features.h5", [pair], match_path)
    assert one_line_error(error, match_path, "other features", " ".join(pair), "--overwrite")


def test_matches_are_stored_best_first(tmp_path, database, features):
    path, ids = database
    a, b, _ = NAMES
    match_path = tmp_path / "matches.h5"
    scores = np.random.default_rng(0).permutation(20) / 20
    write_matches(match_path, (a, b), np.arange(20), scores)
    pairs = [(a, b)]
    assert import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, match_path)
    _, matches = tables(path, ids)
    assert list(scores[matches[a, b][:, 0]]) == sorted(scores, reverse=True)


def test_images_are_removed_and_others_added(tmp_path, scene, features):
    path = tmp_path / "database.db"
    ids = create_database(path, scene / "images", NAMES, "single", None)
    pairs = [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[2]), (NAMES[1], NAMES[2])]
    for pair in pairs:
        matches = np.full(len(features[pair[0]]), -1, np.int32)
        write_matches(tmp_path / "matches.h5", pair, matches, np.zeros(len(matches)))
    import_features_and_matches(path, ids, tmp_path / "features.h5", pairs, tmp_path / "matches.h5")
    keep_images(path, [ids[NAMES[0]], ids[NAMES[2]]])
    with pycolmap.Database.open(path) as database:
        assert [image.name for image in database.read_all_images()] == [NAMES[0], NAMES[2]]
        assert database.num_frames() == 2
        assert not database.exists_keypoints(ids[NAMES[1]])
        assert database.exists_keypoints(ids[NAMES[0]])
        assert [database.exists_matches(ids[a], ids[b]) for a, b in pairs] == [False, True, False]
    others = ["0003.jpg", "0004.jpg"]
    (camera_id,) = {image.camera_id for image in read_images(path)}
    added = add_images(
        path, scene / "images", others, {others[0]: camera_id}, "PINHOLE 400,400,256,192"
    )
    assert not set(added.values()) & set(ids.values())
    cameras = {image.name: image.camera_id for image in read_images(path)}
    assert cameras[NAMES[0]] == cameras[others[0]] == camera_id != cameras[others[1]]
    with pycolmap.Database.open(path) as database:
        assert database.read_camera(cameras[others[1]]).model.name == "PINHOLE"
        # One rig a camera, one frame an image.
        assert (database.num_rigs(), database.num_frames()) == (2, 4)


def read_images(path):
    with pycolmap.Database.open(path) as database:
        return database.read_all_images()
