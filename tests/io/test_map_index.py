"""The index of a map on the disk: what was written is read, and what is broken is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.map_folder import MapFolder, new_map, read_map
from disk_hloc.io.map_index import read_index, write_index
from support.errors import one_line_error
from support.map_indices import small_index

CONF = {"model": {"name": "disk"}, "preprocessing": {}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    index = small_index()
    write_index(index, tmp_path / "index")
    found = read_index(tmp_path / "index")
    for name, value in vars(index).items():
        read = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert read.dtype == value.dtype
            assert not isinstance(read, np.memmap)
            np.testing.assert_array_equal(read, value)
        else:
            assert read == value
    assert found.rows(1) == slice(3, 5)
    np.testing.assert_array_equal(found.pose(1).translation, [1, 2, 3])
    assert len(found.look(1)[0]) == 1


def test_large_descriptors_stay_on_the_disk(tmp_path: Path) -> None:
    write_index(small_index(), tmp_path)
    found = read_index(tmp_path, memory_budget=79)
    assert isinstance(found.descriptors, np.memmap)
    assert not isinstance(found.keypoints, np.memmap)
    assert not isinstance(read_index(tmp_path, memory_budget=80).descriptors, np.memmap)


def test_a_map_of_nothing_is_read(tmp_path: Path) -> None:
    empty = {
        name: value[:0] for name, value in vars(small_index()).items() if hasattr(value, "ndim")
    }
    empty |= {"starts": np.zeros(1, np.int64), "look_starts": np.zeros(1, np.int64)}
    write_index(small_index(**empty, names=[], camera_ids=[], devices=[]), tmp_path)
    assert len(read_index(tmp_path).xyz) == 0


NAMES = [name for name, value in vars(small_index()).items() if isinstance(value, np.ndarray)]
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "longer": lambda array: np.concatenate([array, array[:1]]),
    "a scalar": lambda array: array.reshape(-1)[0],
    "another dimension": lambda array: array[..., None],
    "another dtype": lambda array: array.astype(complex),
    "texts": lambda array: array.astype("U8"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES)
def test_an_array_that_does_not_fit(name: str, change: str, tmp_path: Path) -> None:
    write_index(small_index(), tmp_path)
    np.save(tmp_path / f"{name}.npy", CHANGES[change](getattr(small_index(), name)))
    with pytest.raises(DiskHlocError) as error:
        read_index(tmp_path)
    assert one_line_error(error, tmp_path, "is broken", "build the map again")


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"points": np.array([0, 1, 2, 2, 4])}, "a point that is not there"),
        ({"points": np.array([0, 1, 2, 2, -1])}, "a point that is not there"),
        ({"starts": np.array([0, 6, 5])}, "starts does not fit"),
        ({"starts": np.array([1, 3, 5])}, "starts does not fit"),
        ({"look_starts": np.array([0, 1, 9])}, "look_starts does not fit"),
        ({"xyz": np.full((4, 3), np.nan)}, "xyz has numbers"),
        ({"poses": np.full((2, 7), np.inf)}, "poses has numbers"),
        ({"turns": np.array([0, 4])}, "impossible size or turn"),
        ({"sizes": np.array([[64, 48], [0, 64]])}, "impossible size or turn"),
        ({"names": ["a.jpg", "a.jpg"]}, "names an image twice"),
        ({"names": ["a.jpg", "../../b.jpg"]}, "outside the folder"),
        ({"names": ["a.jpg", "/etc/passwd"]}, "outside the folder"),
        ({"camera_ids": [3]}, "as many cameras"),
        ({"camera_ids": [3, 4]}, "a camera that it does not have"),
        ({"devices": []}, "as many cameras"),
        ({"cameras": {3: {"model": "PINHOLE"}}}, "cannot be read"),
        ({"cameras": {3: {"model": "X", "width": 1, "height": 1, "params": [1]}}}, "'X'"),
        (
            {"cameras": {3: {"model": "PINHOLE", "width": 1, "height": 1, "params": [1]}}},
            "impossible parameters",
        ),
    ],
)
def test_numbers_that_do_not_fit(changed: dict[str, Any], part: str, tmp_path: Path) -> None:
    write_index(small_index(**changed), tmp_path)
    with pytest.raises(DiskHlocError) as error:
        read_index(tmp_path)
    assert one_line_error(error, tmp_path, part, "build the map again")


def test_files_that_are_missing_or_cut_off(tmp_path: Path) -> None:
    write_index(small_index(), tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for content in (None, b"", whole[:20], whole[:-1], b"\x93NUMPY" + whole):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            # Of json, the last byte is a line feed.
            if path.suffix == ".json" and content == whole[:-1]:
                continue
            with pytest.raises(DiskHlocError) as error:
                read_index(tmp_path)
            assert one_line_error(error, tmp_path, "build the map again")
            path.write_bytes(whole)


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    write_index(small_index(), tmp_path)
    for name in ("xyz", "descriptors"):
        with (tmp_path / f"{name}.npy").open("r+b") as file:
            dtype = getattr(small_index(), name).dtype.str
            header = {"descr": dtype, "fortran_order": False, "shape": (1 << 33, 3)}
            np.lib.format.write_array_header_1_0(file, header)
        code = (
            "import resource, sys\nfrom pathlib import Path\n"
            "from disk_hloc.errors import DiskHlocError\n"
            "from disk_hloc.io.map_index import read_index\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try:\n    read_index(Path(sys.argv[1]))\nexcept DiskHlocError as error:\n"
            "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        kilobytes, reason = done.stdout.split(maxsplit=1)
        assert int(kilobytes) < 100_000
        assert "cannot be read" in reason
        write_index(small_index(), tmp_path)


def made(folder: Path) -> MapFolder:
    """A map that is whole as far as ``map.json`` says."""
    found = new_map(folder, CONF, CONF, CONF, "0.1")
    write_index(small_index(), found.index)
    found.commit()
    return found


def test_a_map_is_read(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert read_map(tmp_path) == found
    assert found.thumbnail("b/c.jpg") == tmp_path / "thumbnails" / "b" / "c.jpg.jpg"


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"model": "../.."}, "its model is '../..'"),
        ({"model": "/"}, "its model is '/'"),
        ({"model": "model-1/../../x"}, "its model is"),
        ({"model": "model-"}, "its model is"),
        ({"model": 1}, "its model is 1"),
        ({"model": "model-7"}, "names model-7/index, which does not exist"),
        ({"format": 2, "disk_hloc": "9.1"}, "a map of format 2"),
        ({"format": "1"}, "the format is '1'"),
        ({"format": True}, "the format is True"),
        ({"extractor": {}}, "is broken"),
        ({"extractor": {"model": {"name": "disk"}}}, "is broken"),
        ({"extractor": {**CONF, "preprocessing": 5}}, "no preprocessing"),
        ({"matcher": {"model": {"name": 5}}}, "a conf names no model"),
        ({"retrieval": None}, "is broken"),
    ],
)
def test_a_broken_map(changed: dict[str, Any], part: str, tmp_path: Path) -> None:
    made(tmp_path)
    settings = tmp_path / "map.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changed}))
    with pytest.raises(DiskHlocError) as error:
        read_map(tmp_path)
    assert one_line_error(error, tmp_path, part)


def test_what_is_no_map(tmp_path: Path) -> None:
    for content, part in ((None, "is not a map"), ("[]", "is broken"), ("{", "is broken")):
        if content is not None:
            (tmp_path / "map.json").write_text(content)
        with pytest.raises(DiskHlocError) as error:
            read_map(tmp_path)
        assert one_line_error(error, tmp_path, part)
