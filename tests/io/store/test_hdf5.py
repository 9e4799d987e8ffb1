"""HDF5 files with links, loops, and arrays of other shapes, types and values than expected."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError, SkippedImages
from disk_hloc.io import release
from disk_hloc.io.hloc.features import list_features, list_keypoints, read_features, read_image_size
from disk_hloc.io.hloc.global_features import list_globals, read_globals
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.store import hdf5, reading
from disk_hloc.io.store.hdf5 import names_with as all_names
from disk_hloc.stages import describe, mask, match
from support.errors import one_line_error

COUNT = 9


def write(path: Path, names: tuple[str, ...] = ("a.jpg", "b.jpg"), **changed: object) -> Path:
    """Write features; ``changed`` replaces arrays of the second image, None omits one."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name in names:
            descriptors = rng.normal(size=(16, COUNT))
            arrays: dict[str, object] = {
                "keypoints": rng.uniform(0, 90, (COUNT, 2)).astype(np.float32),
                "descriptors": (descriptors / np.linalg.norm(descriptors, axis=0)).astype("f2"),
                "image_size": np.array([100, 80]),
            }
            if name == names[1]:
                arrays |= changed
            for key, values in arrays.items():
                if values is not None:
                    file[f"{name}/{key}"] = values
    return path


def test_files_in_hlocs_layout_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", ("db/a.jpg", "b.jpg"))
    assert list_features(path) == list_keypoints(path) == ["b.jpg", "db/a.jpg"]
    with reading(path) as file:
        assert sorted(hdf5.names_with(file, "keypoints")) == sorted(all_names(file, "keypoints"))
        found = read_features(file, "db/a.jpg")
        np.testing.assert_array_equal(found["keypoints"], file["db/a.jpg/keypoints"][()])
        np.testing.assert_array_equal(found["descriptors"], file["db/a.jpg/descriptors"][()])
        assert read_image_size(file, "b.jpg") == (100, 80)
        assert hdf5.find(file, "b.jpg/keypoints/x") is None
        assert hdf5.find(file, "absent/keypoints") is None


def test_an_image_without_its_last_array_was_interrupted(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", image_size=None)
    assert list_features(path) == ["a.jpg"]
    assert list_keypoints(path) == ["a.jpg", "b.jpg"]


def nan(*shape: int) -> np.ndarray:
    values = np.zeros(shape, np.float32)
    values.flat[3] = np.nan
    return values


BROKEN = {
    "three coordinates": ({"keypoints": np.zeros((COUNT, 3))}, "(N, 2), found (9, 3)"),
    "flat": ({"keypoints": np.zeros(COUNT * 2)}, "(N, 2), found (18,)"),
    "a number": ({"keypoints": 5}, "(N, 2), found ()"),
    "texts": ({"keypoints": np.full((COUNT, 2), b"x")}, "expected numbers"),
    "complex": ({"keypoints": np.zeros((COUNT, 2), complex)}, "expected numbers"),
    "nan": ({"keypoints": nan(COUNT, 2)}, "b.jpg/keypoints: a value is not finite"),
    "infinite": ({"descriptors": np.full((16, COUNT), np.inf)}, "not finite"),
    "too few": ({"descriptors": np.zeros((16, COUNT - 1))}, "(N, 9), found (16, 8)"),
    "transposed": ({"descriptors": np.zeros((COUNT, 16))}, "(N, 9), found (9, 16)"),
    "no size": ({"image_size": np.array([0, 80])}, "0 x 80"),
    "three sizes": ({"image_size": np.array([4, 5, 3])}, "(2), found (3,)"),
    "a huge size": ({"image_size": np.array([1e300, 4])}, "not a valid image size"),
    "no descriptors": ({"descriptors": None}, "b.jpg"),
    "empty": ({"keypoints": h5py.Empty("f")}, "(N, 2), found None"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_matching_broken_features_is_an_error(kind: str, tmp_path: Path) -> None:
    changed, part = BROKEN[kind]
    path = write(tmp_path / "f.h5", **changed)
    write_pairs(tmp_path / "p.txt", [("a.jpg", "b.jpg")])
    with pytest.raises(DiskHlocError) as error:
        match.main(confs.matchers()["disk"], tmp_path / "p.txt", path, tmp_path / "m.h5")
    assert one_line_error(error, path, "b.jpg", part)


def test_descriptors_of_two_lengths(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", descriptors=np.zeros((8, COUNT), np.float32))
    write_pairs(tmp_path / "p.txt", [("a.jpg", "b.jpg")])
    with pytest.raises(DiskHlocError) as error:
        match.main(confs.matchers()["disk"], tmp_path / "p.txt", path, tmp_path / "m.h5")
    assert one_line_error(error, path, "length 16", "8")


def test_other_byte_orders_and_types_are_read(tmp_path: Path) -> None:
    """As other programs write them."""
    path = write(
        tmp_path / "f.h5",
        keypoints=np.arange(18, dtype=">f8").reshape(COUNT, 2),
        descriptors=np.eye(16, COUNT, dtype=">f4"),
        image_size=np.array([100.0, 80.0]),
    )
    write_pairs(tmp_path / "p.txt", [("a.jpg", "b.jpg")])
    match.main(confs.matchers()["disk"], tmp_path / "p.txt", path, tmp_path / "m.h5")
    with reading(tmp_path / "m.h5") as file:
        assert read_matches(file, "a.jpg", "b.jpg", (COUNT, COUNT)) is not None


@pytest.mark.parametrize(
    ("matches0", "part"),
    [
        (np.array([0, 5]), "made from other features"),
        (np.array([0, 1, -1, 2]), "made from other features"),
        (np.array([[0, 1]]), "(N), found (1, 2)"),
        (np.array([0.0, 1.0]), "expected integers"),
        (np.array([0, 65535], np.uint16), "made from other features"),
    ],
)
def test_matches_out_of_range_or_shape(matches0: np.ndarray, part: str, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a.jpg/b.jpg/matches0"] = matches0
    with reading(path) as file, pytest.raises(DiskHlocError) as error:
        read_matches(file, "a.jpg", "b.jpg", (3, 3))
    assert one_line_error(error, path, part)


def test_a_group_where_matches_are_expected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_group("a.jpg/b.jpg/matches0")
    with reading(tmp_path / "m.h5") as file, pytest.raises(DiskHlocError) as error:
        read_matches(file, "a.jpg", "b.jpg")
    assert one_line_error(error, tmp_path / "m.h5", "expected an array, but it is a group")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A pipe that a link points to: opening it would block forever."""
    path = tmp_path / "trap.h5"
    os.mkfifo(path)
    return path


READERS = {
    "features": list_features,
    "keypoints": list_keypoints,
    "globals": list_globals,
    "release": release.names_of,
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_not_followed(kind: str, link: str, trap: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        target = h5py.ExternalLink(trap, "/x") if link == "external" else h5py.SoftLink("/y")
        file["x.jpg"] = target
    with pytest.raises(DiskHlocError) as error:
        READERS[kind](path)
    assert one_line_error(error, path, "x.jpg: this is a link")


def test_links_of_arrays_are_not_followed(trap: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", descriptors=None)
    with h5py.File(path, "a") as file:
        file["b.jpg/descriptors"] = h5py.ExternalLink(trap, "/x")
        file["m.jpg/b.jpg/matches0"] = h5py.ExternalLink(trap, "/x")
    with reading(path) as file:
        for read in (
            lambda: read_features(file, "b.jpg"),
            lambda: read_matches(file, "m.jpg", "b.jpg"),
        ):
            with pytest.raises(DiskHlocError) as error:
                read()
            assert one_line_error(error, path, "this is a link")


def test_arrays_stored_in_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 1000)
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        stored = [(str(tmp_path / "secret.bin"), 0, 1000)]
        file.create_dataset("a", (9, 2), "f4", external=stored)
        layout = h5py.VirtualLayout((9, 2), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (9, 2))
        file.create_virtual_dataset("b", layout)
    with reading(path) as file:
        for name in "ab":
            with pytest.raises(DiskHlocError) as error:
                hdf5.read(file, name, (None, 2))
            assert one_line_error(error, path, "stored in other files")


def test_an_array_too_large_for_memory(tmp_path: Path) -> None:
    """It takes no space in the file, since it was never written."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("a", (1 << 40, 2), "f4", chunks=(1000, 2))
    assert (tmp_path / "f.h5").stat().st_size < 10_000
    with reading(tmp_path / "f.h5") as file, pytest.raises(DiskHlocError) as error:
        hdf5.read(file, "a", (None, 2))
    assert one_line_error(error, "too large to read")


def test_a_group_that_contains_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_group("a/b")
        file["a/b/again"] = file["a"]
    with pytest.raises(DiskHlocError) as error:
        list_features(tmp_path / "f.h5")
    assert one_line_error(error, tmp_path / "f.h5", "a/b/again: this group contains itself")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated_files(kept: float, tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DiskHlocError) as error:
        list_features(path)
    assert one_line_error(error, path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    """hloc's matches where features are expected, and the other way around."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a.jpg/b.jpg/matches0"] = np.array([0, 1])
    assert list_features(tmp_path / "m.h5") == list_globals(tmp_path / "m.h5") == []
    with reading(write(tmp_path / "f.h5")) as file:
        assert read_matches(file, "a.jpg", "b.jpg") is None


def test_global_descriptors(tmp_path: Path) -> None:
    for values, part in ((np.zeros((2, 3)), "(N), found (2, 3)"), (np.zeros(0), "is empty")):
        with h5py.File(tmp_path / "g.h5", "w") as file:
            file["a.jpg/global_descriptor"] = values
        with reading(tmp_path / "g.h5") as file, pytest.raises(DiskHlocError) as error:
            read_globals(file, ["a.jpg"])
        assert one_line_error(error, tmp_path / "g.h5", part)


def test_describing_skips_or_stops(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", ("a.jpg", "b.jpg", "c.jpg"), descriptors=nan(16, COUNT))
    conf = {
        **confs.global_descriptors()["disk-vlad"],
        "model": {"name": "disk_vlad", "clusters": 2},
    }
    with pytest.raises(SkippedImages) as error:
        describe.main(conf, path, tmp_path / "g.h5")
    assert one_line_error(error, "1 image", "b.jpg", "not finite", tmp_path / "g.h5")
    assert list_globals(tmp_path / "g.h5") == ["a.jpg", "c.jpg"]
    with pytest.raises(DiskHlocError) as stopped:
        describe.main(conf, path, tmp_path / "h.h5", on_error="stop")
    assert not isinstance(stopped.value, SkippedImages)
    assert one_line_error(stopped, path, "b.jpg")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_group(b"\xff.jpg")["keypoints"] = np.zeros((1, 2))
    for read in (list_keypoints, release.names_of):
        with pytest.raises(DiskHlocError) as error:
            read(path)
        assert one_line_error(error, path, "is not UTF-8")


def test_masking_an_image_of_an_impossible_size(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", image_size=np.array([1 << 19, 1 << 19]))
    Image.new("L", (100, 80), 255).save(tmp_path / "mask.png")
    with pytest.raises(DiskHlocError) as error:
        mask.main({"file": tmp_path / "mask.png"}, path, tmp_path / "out.h5")
    assert one_line_error(error, path, "b.jpg", "524288x524288")


@pytest.mark.parametrize("noted", ["x", np.zeros(2), 0.0, np.nan])
def test_attributes_that_are_not_a_positive_number(noted: object, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keypoints.h5", "w") as file:
        file["a"] = np.zeros((3, 2))
        file["a"].attrs[release.PIXEL_SIZE_ATTRIBUTE] = noted
    with reading(tmp_path / "keypoints.h5") as file, pytest.raises(DiskHlocError) as error:
        release.read_centered(file, "a")
    assert one_line_error(error, tmp_path / "keypoints.h5", "pixel_size")
