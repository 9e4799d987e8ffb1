"""Writing HDF5 files: confs, resuming, broken files, full disks, several processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import Busy, DiskHlocError
from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.store import (
    CONF_ATTRIBUTE,
    join,
    journal_path,
    reading,
    replacing,
    require_space,
    writing,
)
from disk_hloc.io.store import store as module
from disk_hloc.io.store.hdf5 import names_with
from disk_hloc.io.store.journal import Dataset, Journal
from support.errors import one_line_error

CONF = {"model": {"name": "disk", "max_keypoints": None}, "preprocessing": {"resize_max": 1600}}
SAME_CONF = {
    "preprocessing": {"resize_max": 1600},
    "model": {"max_keypoints": None, "name": "disk"},
}
OTHER_CONF = {"model": {"name": "disk", "max_keypoints": 5}, "preprocessing": {"resize_max": 1600}}


def entry(name, value):
    return name, [Dataset(f"{name}/keypoints", np.asarray(value))]


def add(path, name, value, conf=CONF, **options):
    with writing(path, conf, **options) as store:
        store.add(*entry(name, value))


def content(path):
    with reading(path) as file:
        names = list(names_with(file, "keypoints"))
        return {name: file[name]["keypoints"][()].tolist() for name in names}


class Interruption(Exception):
    """Ends a run early."""


def interrupt(path, entries, conf=CONF, **options):
    with pytest.raises(Interruption), writing(path, conf, **options) as store:  # noqa: PT012
        for name, value in entries.items():
            store.add(*entry(name, value))
        raise Interruption


def test_a_file_appears_once_it_is_complete_and_its_journal_is_removed(tmp_path):
    path = tmp_path / "a" / "b" / "features.h5"
    with writing(path, CONF) as store:
        store.add(*entry("x", 1))
        store.finish()
        assert not path.exists()
        assert store.base is None
        store._thread.join()
    assert content(path) == {"x": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_without_entries(tmp_path):
    with writing(tmp_path / "features.h5", CONF):
        pass
    assert content(tmp_path / "features.h5") == {}


def test_attributes_dtypes_and_shapes_are_kept(tmp_path):
    path = tmp_path / "features.h5"
    rng = np.random.default_rng(0)
    arrays = {
        "half": rng.normal(size=(128, 7)).astype(np.float16),
        "transposed": rng.normal(size=(3, 5)).T,
        "empty": np.zeros((0, 2), np.float32),
        "scalar": np.array(5, np.int32),
        "big_endian": np.arange(5, dtype=">i8"),
    }
    with writing(path, CONF) as store:
        store.add(
            "db/a b.jpg",
            [Dataset(f"db/a b.jpg/{key}", array, {"uncertainty": 1.25, "unit": "px"})
             for key, array in arrays.items()],
        )  # fmt: skip
    with h5py.File(path, "r") as file:
        for key, array in arrays.items():
            stored = file["db/a b.jpg"][key]
            np.testing.assert_array_equal(stored[()], array)
            assert (stored.dtype, stored.shape) == (array.dtype, array.shape)
            assert dict(stored.attrs) == {"uncertainty": 1.25, "unit": "px"}


def test_an_entry_without_arrays_is_a_group_and_removes_nothing(tmp_path):
    path = tmp_path / "matches.h5"
    add(path, "a/b", [1])
    with writing(path, CONF) as store:
        store.add("a", [])
        store.add("c", [])
    with reading(path) as file:
        assert list(file) == ["a", "c"]
        assert len(file["c"]) == 0
    assert content(path) == {"a/b": [1]}


def test_the_same_conf_resumes_and_a_later_entry_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    with writing(path, SAME_CONF) as store:
        assert store.base == path
        assert store.names == set()
        store.add(*entry("y", [1, 2]))
        store.add(*entry("x", 3))
        store.add(*entry("x", [4, 5]))
    assert content(path) == {"x": [4, 5], "y": [1, 2]}


def test_a_run_that_adds_nothing_does_not_change_the_file(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    before = path.stat()
    with writing(path, CONF):
        pass
    after = path.stat()  # all but the time of the last reading
    assert (after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == [path]


def test_a_resumed_run_gives_the_same_file(tmp_path):
    path, whole = tmp_path / "features.h5", tmp_path / "whole.h5"
    with writing(whole, CONF) as store:
        for name in "abcd":
            store.add(*entry(name, [ord(name)]))
    interrupt(path, {"d": [ord("d")], "b": [ord("b")]})
    assert not path.exists()
    with pytest.raises(DiskHlocError) as error, reading(path):
        pass
    assert one_line_error(error, path, "features.h5.journal", "run the same command again")
    interrupt(path, {})
    with writing(path, SAME_CONF) as store:
        assert store.names == {"b", "d"}
        for name in "ac":
            store.add(*entry(name, [ord(name)]))
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, whole]


def test_the_old_file_is_unchanged_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    before = path.read_bytes()
    interrupt(path, {"y": 2})
    assert path.read_bytes() == before
    interrupt(path, {"z": 3}, overwrite=True)
    assert path.read_bytes() == before
    # The unfinished run started over, and still does when it is resumed.
    with writing(path, CONF) as store:
        assert store.base is None
        assert store.names == {"z"}
    assert content(path) == {"z": 3}


def test_another_conf_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    for _ in range(2):
        with pytest.raises(DiskHlocError) as error:
            add(path, "y", 2, OTHER_CONF)
        expected = "model.max_keypoints None, now 5"
        assert one_line_error(error, path, "another conf", expected, "--overwrite")
        assert "1600" not in str(error.value)
    assert content(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_another_conf_than_that_of_an_unfinished_run_is_refused(tmp_path):
    path = tmp_path / "features.h5"
    interrupt(path, {"x": 1})
    with pytest.raises(DiskHlocError) as error:
        add(path, "y", 2, OTHER_CONF)
    assert one_line_error(error, journal_path(path), "another conf", "--overwrite")
    add(path, "y", 2)
    assert content(path) == {"x": 1, "y": 2}


def test_an_unfinished_run_without_entries_leaves_nothing(tmp_path):
    interrupt(tmp_path / "features.h5", {})
    assert list(tmp_path.iterdir()) == []


def test_overwrite_starts_over_with_the_new_conf(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    interrupt(path, {"w": 1})
    add(path, "y", 2, OTHER_CONF, overwrite=True)
    assert content(path) == {"y": 2}
    with pytest.raises(DiskHlocError, match="another conf"):
        add(path, "z", 3)


def test_overwrite_replaces_a_broken_file(tmp_path):
    path = tmp_path / "features.h5"
    path.write_text("broken")
    add(path, "x", 1, overwrite=True)
    assert content(path) == {"x": 1}


def test_hlocs_own_file_is_added_to_and_not_labelled(tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["x/keypoints"] = 1
        file["x/other"] = 5
        file["loose"] = 7
    add(path, "y", 2)
    add(path, "z", 3, OTHER_CONF)
    assert content(path) == {"x": 1, "y": 2, "z": 3}
    with reading(path) as file:
        assert CONF_ATTRIBUTE not in file.attrs
        assert (file["x/other"][()], file["loose"][()]) == (5, 7)


def test_missing_file(tmp_path):
    with pytest.raises(DiskHlocError) as error, reading(tmp_path / "absent.h5"):
        pass
    assert one_line_error(error, "no file", tmp_path / "absent.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [None, 0.01, 0.3, 0.7, 0.999])
def test_a_file_that_is_not_a_whole_hdf5_file_is_not_changed(tmp_path, kept):
    path = tmp_path / "features.h5"
    if kept is None:
        path.write_text("name0 name1\n" * 200)
    else:
        add(path, "x", np.arange(2000))
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    before = path.read_bytes()
    for use in (
        lambda: reading(path).__enter__(),
        lambda: add(path, "y", 1),
        lambda: list_features(path),
    ):
        with pytest.raises(DiskHlocError) as error:
            use()
        assert one_line_error(error, path, "HDF5")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_open_elsewhere_is_not_called_broken(tmp_path):
    path = tmp_path / "features.h5"
    code = (
        f"import h5py; file = h5py.File({str(path)!r}, 'w', libver='latest')\n"
        "file['x'] = 1; file.flush(); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(DiskHlocError) as error:
            reading(path).__enter__()
        assert one_line_error(error, path, "open for writing in another program: close it")
        process.kill()
    with pytest.raises(DiskHlocError) as error:
        reading(path).__enter__()
    assert one_line_error(error, path, "stopped before it closed", f"h5clear -s {path}")


def test_a_file_that_is_not_a_journal_is_not_changed(tmp_path):
    path = tmp_path / "features.h5"
    journal_path(path).write_text("my diary")
    with pytest.raises(DiskHlocError) as error:
        add(path, "x", 1, overwrite=True)
    assert one_line_error(error, journal_path(path), "not a journal")
    assert journal_path(path).read_text() == "my diary"


def test_file_is_closed_after_an_error_inside(tmp_path):
    path = tmp_path / "features.h5"
    add(path, "x", 1)
    with pytest.raises(Interruption), reading(path) as file:
        raise Interruption
    assert not file


def test_a_file_too_large_for_the_disk_is_refused_before_writing(tmp_path):
    path = tmp_path / "features.h5"
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DiskHlocError) as error, replacing(path, 2 * free + 1):
        pass
    assert one_line_error(error, tmp_path, "full", "features.h5")
    assert list(tmp_path.iterdir()) == []
    require_space(path, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path, sizes):
    """Add entries until the disk is full; return those that were passed on before."""
    done = {}
    with pytest.raises(DiskHlocError) as error, writing(path, CONF) as store:  # noqa: PT012
        for i, size in enumerate(sizes):
            value = np.full(size, i, np.uint8)
            store.add(*entry(f"{i}.jpg", value))
            done[f"{i}.jpg"] = value.tolist()
    assert one_line_error(error, path.parent, "full", "free some space")
    return done


def test_a_disk_that_fills_up_keeps_what_was_written(small_disk):
    path = small_disk / "features.h5"
    written = fill(path, [500_000] * 40)
    assert 10 <= len(written) < 40
    # There is no space for the file itself either, and trying loses nothing.
    with pytest.raises(DiskHlocError) as error, writing(path, CONF) as store:
        kept = store.names
    assert one_line_error(error, small_disk, "full", "features.h5", "free some space")
    assert len(kept) >= 10
    assert list(small_disk.iterdir()) == [journal_path(path)]
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    with writing(path, CONF) as store:
        assert store.names == kept
    assert content(path) == {name: written[name] for name in kept}


def test_a_disk_without_space_for_the_file_keeps_the_journal_and_the_file(small_disk):
    path = small_disk / "features.h5"
    add(path, "x", 1)
    before = path.read_bytes()
    fill(path, [500_000] * 7)
    assert path.read_bytes() == before
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    with writing(path, CONF) as store:
        assert len(store.names) == 7
    assert len(content(path)) == 8
    assert list(small_disk.iterdir()) == [path]


def test_a_disk_that_fails_while_the_file_is_written_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "features.h5"
    interrupt(path, {"x": 1})

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(DiskHlocError) as error:  # noqa: PT012
        patch.setattr(module, "put", fail)
        add(path, "y", 2)
    assert one_line_error(error, path, "Input/output error", "features.h5.journal")
    assert list(tmp_path.iterdir()) == [journal_path(path)]
    add(path, "z", 3)
    assert content(path) == {"x": 1, "y": 2, "z": 3}


def test_a_damaged_record_is_an_error_and_is_computed_again(tmp_path):
    path = tmp_path / "features.h5"
    with pytest.raises(DiskHlocError) as error, writing(path, CONF) as store:  # noqa: PT012
        for name in "xyz":
            store.add(*entry(name, np.arange(100)))
        store.finish()
        with journal_path(path).open("r+b") as file:
            file.seek(journal_path(path).stat().st_size // 2)
            file.write(b"rotten")
    assert one_line_error(error, journal_path(path), "of y", "failing")
    with writing(path, CONF) as store:
        assert store.names == {"x", "z"}
        store.add(*entry("y", np.arange(100)))
    assert content(path) == {name: list(range(100)) for name in "xyz"}


def test_an_entry_that_cannot_be_written_is_an_error(tmp_path):
    path = tmp_path / "features.h5"
    with pytest.raises(TypeError), writing(path, CONF) as store:  # noqa: PT012
        store.add(*entry("x", 1))
        store.add("y", [Dataset("y/keypoints", np.zeros(1), {"attribute": object()})])
        for _ in range(1000):
            store.add(*entry("z", 1))
            time.sleep(0.01)
    with writing(path, CONF) as store:
        assert store.names == {"x"}


def test_two_processes_cannot_write_one_file(tmp_path):
    path = tmp_path / "features.h5"
    program = (
        "from pathlib import Path; from disk_hloc.io.store import writing; import sys\n"
        "with writing(Path(sys.argv[1]), {}): print('begun', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "begun\n"
    start = time.monotonic()
    for options in ({}, {"overwrite": True}):
        with pytest.raises(Busy) as error:
            add(path, "x", 1, {}, **options)
        assert one_line_error(error, "another process", path)
    assert time.monotonic() - start < 1
    other.communicate("", timeout=30)
    assert other.returncode == 0
    add(path, "x", 1, {})
    assert content(path) == {"x": 1}


def test_a_killed_writer_does_not_lock_out_the_next(tmp_path):
    path = tmp_path / "features.h5"
    child = os.fork()
    if child == 0:
        with writing(path, CONF) as store:
            store.add(*entry("x", 1))
            while not store._journal.names:
                time.sleep(0.01)
            os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    add(path, "y", 2)
    assert content(path) == {"x": 1, "y": 2}


def test_many_writers_of_one_file_take_turns_and_lose_nothing(tmp_path):
    path = tmp_path / "features.h5"

    def add_when_free(name):
        for _ in range(10000):
            try:
                return add(path, name, 1)
            except Busy:
                time.sleep(0.001)
        raise AssertionError(name)

    threads = [threading.Thread(target=add_when_free, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(path) == {str(i): 1 for i in range(8)}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_file_does_not_depend_on_order_and_interruptions(tmp_path_factory, events):
    """0 ends the run early; other numbers are versions of an entry."""
    folder = tmp_path_factory.mktemp("store")
    last = {name: number for name, number in events if number}
    for name, number in events:
        if number:
            interrupt(folder / "features.h5", {name: [number]})
        else:
            interrupt(folder / "features.h5", {})
    for file in ("features.h5", "whole.h5"):
        with writing(folder / file, CONF) as store:
            if file == "whole.h5":
                for name in sorted(last):
                    store.add(*entry(name, [last[name]]))
    assert (folder / "features.h5").read_bytes() == (folder / "whole.h5").read_bytes()
    assert len(list(folder.iterdir())) == 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_journal_truncated_anywhere_keeps_the_records_before(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path)
    journal.restart({"conf": "x"})
    ends = [journal.num_bytes]
    for i in range(4):
        # No zeros, since those could complete a torn record.
        journal.append(*entry(str(i), np.full(10 * i, 7, np.uint8)))
        ends.append(journal.num_bytes)
    journal.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(ends[0], len(whole)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 50, b"DHJ1", os.urandom(40), whole[:7]]))
    path.write_bytes(whole[:cut] + tail)
    journal = Journal(path)
    kept = sum(end <= cut for end in ends[1:])
    assert list(journal.names) == [str(i) for i in range(kept)]
    assert journal.header == {"conf": "x"}
    for i in range(kept):
        assert journal.read(str(i))[0].array.tolist() == [7] * 10 * i
    # A record appended after a torn one is found again.
    journal.append(*entry("new", [5]))
    journal.close()
    journal = Journal(path)
    assert list(journal.names) == [*(str(i) for i in range(kept)), "new"]
    assert journal.dropped == 0
    journal.close()


def test_joined_parts_give_the_file_of_a_single_run(tmp_path):
    names = [f"db/{i}.jpg" for i in range(20)]
    for folder, chosen in (("whole", names), ("a", names[::3]), ("b", names[1::3])):
        for name in chosen:
            interrupt(tmp_path / folder / "f.h5", {name: np.full((3, 2), len(name), np.float16)})
        with writing(tmp_path / folder / "f.h5", CONF):
            pass
    path = tmp_path / "joined" / "f.h5"
    # An unfinished run of a single process holds the remaining entries.
    interrupt(path, {name: np.full((3, 2), len(name), np.float16) for name in names[2::3]})
    join(path, [tmp_path / "a" / "f.h5", tmp_path / "b" / "f.h5"], "keypoints")
    assert path.read_bytes() == (tmp_path / "whole" / "f.h5").read_bytes()
    assert list(path.parent.iterdir()) == [path]


def test_parts_of_different_confs_are_refused(tmp_path):
    add(tmp_path / "a.h5", "x", 1)
    add(tmp_path / "b.h5", "y", 1, OTHER_CONF)
    with pytest.raises(DiskHlocError) as error:
        join(tmp_path / "f.h5", [tmp_path / "a.h5", tmp_path / "b.h5"], "keypoints")
    assert one_line_error(error, tmp_path / "f.h5", "the same conf")
    assert not (tmp_path / "f.h5").exists()
