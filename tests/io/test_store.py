"""HDF5 files that are added to: confs, broken files, a full disk."""

from __future__ import annotations

import shutil
import subprocess
import time

import h5py
import numpy as np
import pytest

from conftest import one_line_error
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.features import list_features, write_features
from disk_hloc.io.matches import read_matches, write_matches
from disk_hloc.io.store import appending, claim, reading, require_space, writing_behind

CONF = {"model": {"name": "disk", "max_keypoints": None}, "preprocessing": {"resize_max": 1600}}
SAME_CONF = {
    "preprocessing": {"resize_max": 1600},
    "model": {"max_keypoints": None, "name": "disk"},
}
OTHER_CONF = {"model": {"name": "disk", "max_keypoints": 5}, "preprocessing": {"resize_max": 1600}}


def add(path, name, value):
    with appending(path, 8) as file:
        file[name] = value


def content(path):
    with reading(path) as file:
        return {name: file[name][()] for name in file}


def test_claim_creates_the_folder_and_an_empty_file(tmp_path):
    path = tmp_path / "a" / "b" / "features.h5"
    claim(path, CONF, overwrite=False)
    assert content(path) == {}


def test_same_conf_goes_on(tmp_path):
    path = tmp_path / "features.h5"
    claim(path, CONF, overwrite=False)
    add(path, "x", 1)
    claim(path, SAME_CONF, overwrite=False)
    assert content(path) == {"x": 1}


@pytest.mark.parametrize("empty", [False, True])
def test_another_conf_is_refused_and_nothing_is_lost(tmp_path, empty):
    path = tmp_path / "features.h5"
    claim(path, CONF, overwrite=False)
    if not empty:
        add(path, "x", 1)
    for _ in range(2):
        with pytest.raises(DiskHlocError) as error:
            claim(path, OTHER_CONF, overwrite=False)
        assert one_line_error(error, path, "another conf", "1600", "--overwrite")
    assert content(path) == ({} if empty else {"x": 1})
    claim(path, CONF, overwrite=False)


def test_overwrite_starts_anew_with_the_new_conf(tmp_path):
    path = tmp_path / "features.h5"
    claim(path, CONF, overwrite=False)
    add(path, "x", 1)
    claim(path, OTHER_CONF, overwrite=True)
    assert content(path) == {}
    with pytest.raises(DiskHlocError, match="another conf"):
        claim(path, CONF, overwrite=False)


def test_overwrite_replaces_a_broken_file(tmp_path):
    path = tmp_path / "features.h5"
    path.write_text("broken")
    claim(path, CONF, overwrite=True)
    assert content(path) == {}


def test_hlocs_own_file_is_added_to_and_not_labelled(tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    claim(path, CONF, overwrite=False)
    claim(path, OTHER_CONF, overwrite=False)
    assert content(path) == {"x": 1}


def test_missing_file(tmp_path):
    with pytest.raises(DiskHlocError) as error, reading(tmp_path / "absent.h5"):
        pass
    assert one_line_error(error, "no file", tmp_path / "absent.h5")
    assert not (tmp_path / "absent.h5").exists()


def test_text_is_no_hdf5_file_and_stays_as_it_is(tmp_path):
    path = tmp_path / "features.h5"
    path.write_text("name0 name1\n" * 200)
    before = path.read_bytes()
    for way in (
        lambda: reading(path).__enter__(),
        lambda: appending(path, 8).__enter__(),
        lambda: claim(path, CONF, overwrite=False),
        lambda: list_features(path),
    ):
        with pytest.raises(DiskHlocError) as error:
            way()
        assert one_line_error(error, path, "HDF5")
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.999])
def test_truncated_hdf5_file_stays_as_it_is(tmp_path, kept):
    path = tmp_path / "features.h5"
    for i in range(5):
        add(path, f"{i}.jpg", np.arange(500))
    whole = path.read_bytes()
    cut = whole[: int(kept * len(whole))]
    path.write_bytes(cut)
    for way in (reading(path), appending(path, 8)):
        with pytest.raises(DiskHlocError) as error, way:
            pass
        assert one_line_error(error, path, "HDF5")
    assert path.read_bytes() == cut


def test_file_is_closed_after_an_error_inside(tmp_path):
    path = tmp_path / "features.h5"
    with pytest.raises(RuntimeError, match="inside"), appending(path, 8) as file:  # noqa: PT012
        file["x"] = 1
        raise RuntimeError("inside")
    assert not file
    assert content(path) == {"x": 1}
    with pytest.raises(RuntimeError, match="inside"), reading(path) as file:
        raise RuntimeError("inside")
    assert not file


def test_more_than_the_disk_holds_is_refused_before_the_file_is_touched(tmp_path):
    path = tmp_path / "features.h5"
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DiskHlocError) as error, appending(path, 2 * free + 1):
        pass
    assert one_line_error(error, tmp_path, "full", "features.h5")
    assert not path.exists()
    require_space(path, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_the_features_written_so_far(small_disk):
    path = small_disk / "features.h5"
    claim(path, CONF, overwrite=False)
    rng = np.random.default_rng(0)
    written = {}
    with pytest.raises(DiskHlocError) as error:  # noqa: PT012
        for i in range(100):
            name = f"db/{i}.jpg"
            features = {
                "keypoints": rng.uniform(0, 999, (1000, 2)).astype(np.float32),
                "descriptors": rng.normal(size=(128, 1000)).astype(np.float16),
                "image_size": np.array([1000, 800]),
            }
            write_features(path, name, features, 1.0)
            written[name] = features
    assert one_line_error(error, small_disk, "full")
    assert 3 <= len(written) < 100
    assert list_features(path) == sorted(written)
    with reading(path) as file:
        for name, features in written.items():
            for key, array in features.items():
                np.testing.assert_array_equal(file[name][key][()], array)
    # With room, the same run goes on.
    claim(path, CONF, overwrite=False)


def test_full_disk_keeps_the_matches_written_so_far(small_disk):
    path = small_disk / "matches.h5"
    claim(path, CONF, overwrite=False)
    matches0 = np.random.default_rng(0).permutation(30000)
    written = []
    with pytest.raises(DiskHlocError, match="full"):  # noqa: PT012
        for i in range(100):
            write_matches(path, ("a.jpg", f"{i}.jpg"), matches0, np.zeros(30000))
            written.append(f"{i}.jpg")
    assert 3 <= len(written) < 100
    with reading(path) as file:
        assert sorted(file["a.jpg"]) == sorted(written)
        for name in written:
            np.testing.assert_array_equal(read_matches(file, "a.jpg", name)[:, 1], matches0)


def test_writes_behind_are_in_order_and_done_at_the_end() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.001)
        done.append(number)

    with writing_behind(waiting=3) as write:
        for number in range(20):
            write(slow, number)
            assert number - len(done) <= 4
    assert done == list(range(20))


def test_an_interruption_loses_nothing_that_was_handed_over() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), writing_behind() as write:  # noqa: PT012
        for number in range(5):
            write(lambda number: (time.sleep(0.002), done.append(number)), number)
        raise KeyboardInterrupt
    assert done == list(range(5))


def test_what_a_write_raises_is_raised() -> None:
    def fail() -> None:
        raise DiskHlocError("the disk is full")

    with pytest.raises(DiskHlocError, match="full"), writing_behind() as write:
        write(fail)
    with pytest.raises(DiskHlocError, match="full"), writing_behind(waiting=0) as write:  # noqa: PT012
        write(fail)
        pytest.fail("not noticed")
