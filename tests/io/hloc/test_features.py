"""hloc's features file: what is written, and what an interrupted run leaves behind."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import (
    list_features,
    read_features,
    read_keypoints,
    require_features,
    require_image_sizes,
)
from disk_hloc.io.store import reading
from support.errors import one_line_error
from support.hloc_files import write_features


def make_features(count=7, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count).astype(np.float32)
    return {
        "keypoints": rng.uniform(0, 6000, (count, 2)).astype(np.float32),
        "keypoint_scores": scores,
        "scores": scores,
        "descriptors": rng.normal(size=(128, count)).astype(np.float16),
        "image_size": np.array([6000, 4000]),
    }


def assert_holds(path, name, features, uncertainty):
    with h5py.File(path, "r") as file:
        assert set(file[name]) == set(features)
        for key, array in features.items():
            stored = file[name][key]
            assert stored.dtype == array.dtype
            np.testing.assert_array_equal(stored[()], array)
        assert file[name]["keypoints"].attrs["uncertainty"] == uncertainty


@pytest.mark.parametrize("count", [0, 1, 300])
def test_file_holds_what_was_written(tmp_path, count):
    path = tmp_path / "features.h5"
    features = make_features(count)
    write_features(path, "db/1/a b.jpg", features, 1.25)
    assert_holds(path, "db/1/a b.jpg", features, 1.25)
    with reading(path) as file:
        keypoints = read_keypoints(file, "db/1/a b.jpg")
    assert keypoints.dtype == np.float32
    np.testing.assert_array_equal(keypoints, features["keypoints"])


# The suffix, which no folder has, prevents that one name is the folder of another.
parts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0."), min_size=1, max_size=8
)
image_names = st.lists(parts, min_size=1, max_size=3).map(lambda names: "/".join(names) + ".jpg")


@given(names=st.sets(image_names, min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_any_name_is_found_again(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("features") / "features.h5"
    for seed, name in enumerate(names):
        write_features(path, name, make_features(2, seed), 1.0)
    assert list_features(path) == sorted(names)
    for seed, name in enumerate(names):
        assert_holds(path, name, make_features(2, seed), 1.0)


@pytest.mark.parametrize("name", ["keypoints/a.jpg", "db/keypoints/a.jpg", "image_size/a.jpg"])
def test_folders_named_as_datasets_are(tmp_path, name):
    path = tmp_path / "features.h5"
    write_features(path, "db/b.jpg", make_features(), 1.0)
    write_features(path, name, make_features(), 1.0)
    assert list_features(path) == sorted(["db/b.jpg", name])


def test_writing_again_replaces(tmp_path):
    path = tmp_path / "features.h5"
    write_features(path, "a.jpg", make_features(9, seed=1), 1.0)
    write_features(path, "a.jpg", make_features(4, seed=2), 2.0)
    assert_holds(path, "a.jpg", make_features(4, seed=2), 2.0)


def test_an_incomplete_image_of_hloc_is_not_listed(tmp_path):
    path = tmp_path / "features.h5"
    write_features(path, "db/a.jpg", make_features(), 1.0)
    with h5py.File(path, "a") as file:
        del file["db/a.jpg"]["image_size"]
        file.create_group("db/empty")
        file["loose"] = 1
    write_features(path, "db/b.jpg", make_features(), 1.0)
    assert list_features(path) == ["db/b.jpg"]


def test_hlocs_float16_keypoints_are_read_as_float32(tmp_path):
    path = tmp_path / "features.h5"
    write_features(path, "a.jpg", {**make_features(), "keypoints": np.ones((3, 2), "f2")}, 1.0)
    with reading(path) as file:
        assert read_keypoints(file, "a.jpg").dtype == np.float32


def test_required_features_that_are_missing(tmp_path):
    path = tmp_path / "features.h5"
    write_features(path, "db/a.jpg", make_features(), 1.0)
    require_features(path, ["db/a.jpg"], because="pairs.txt names")
    with h5py.File(path, "a") as file:
        file["alone.jpg/keypoints"] = np.zeros((3, 2))
    require_features(path, ["alone.jpg"], "pairs.txt names")
    with pytest.raises(DiskHlocError, match=r"no image_size of 1 .* names: alone\.jpg; use the"):
        require_features(path, ["alone.jpg", "db/a.jpg"], "pairs.txt names", "image_size")
    # A folder in the file is not an image.
    missing = ["db", *(f"{i}.jpg" for i in range(6))]
    with pytest.raises(DiskHlocError) as error:
        require_features(path, ["db/a.jpg", *missing, *missing], because="pairs.txt names")
    message = str(error.value)
    assert "\n" not in message
    assert f"{path} is missing 7 of the images that pairs.txt names: 0.jpg, 1.jpg" in message
    assert "and 2 more" in message


def test_no_file(tmp_path):
    with pytest.raises(DiskHlocError, match="no file"):
        list_features(tmp_path / "absent.h5")


@pytest.mark.parametrize("key", ["b.jpg", "b.jpg/keypoints", "b.jpg/image_size"])
def test_a_link_is_not_followed_when_features_are_asked_for(tmp_path, key):
    path, pipe = tmp_path / "features.h5", tmp_path / "pipe"
    for name in ("a.jpg", "b.jpg"):
        write_features(path, name, make_features(), 1.0)
    os.mkfifo(pipe)  # opened, it would be waited for without end
    with h5py.File(path, "a") as file:
        del file[key]
        file[key] = h5py.ExternalLink(pipe, "x")
    with pytest.raises(DiskHlocError) as error:
        require_features(path, ["a.jpg", "b.jpg"], "somebody names", "image_size")
    assert one_line_error(error, path, "b.jpg", "link")


def read_all(path):
    """The error of reading all of a features file, or None."""
    try:
        require_features(path, list_features(path), because="all")
        with reading(path) as file:
            for name in ("db/a.jpg", "db/b.jpg"):
                read_features(file, name)
    except DiskHlocError as error:
        return str(error)
    return None


def test_a_bad_checksum_is_one_line(tmp_path):
    path = tmp_path / "features.h5"
    for name in ("db/a.jpg", "db/b.jpg"):
        write_features(path, name, make_features(), 1.0)
    assert read_all(path) is None
    sound = path.read_bytes()
    headers = [i for i in range(len(sound)) if sound[i : i + 4] in (b"OHDR", b"FRHP", b"FSHD")]
    said = []
    for start in headers:
        changed = bytearray(sound)
        changed[start + 6] ^= 1
        path.write_bytes(changed)
        said.append(read_all(path))
    assert sum(message is not None for message in said) > 5
    assert not any("\n" in message for message in said if message)


def test_cameras_of_another_size_than_the_images(tmp_path):
    path = tmp_path / "features.h5"
    for name in ("q/a.jpg", "q/b.jpg", "q/c.jpg"):
        write_features(path, name, make_features(), 1.0)
    with h5py.File(path, "a") as file:
        del file["q/c.jpg/image_size"]
    sizes = {"q/a.jpg": (6000, 4000), "q/c.jpg": (1, 1), "q/not there.jpg": (1, 1)}
    require_image_sizes(path, sizes, "the cameras of queries.txt")
    with pytest.raises(DiskHlocError) as error:
        require_image_sizes(path, {**sizes, "q/b.jpg": (4000, 6000)}, "the cameras of queries.txt")
    assert one_line_error(error, path, "queries.txt", "q/b.jpg (4000 x 6000 and 6000 x 4000)")
