"""release match: the released results, chunks, pairs without an entry."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.release import match
from support.errors import one_line_error


def unit(count: int, seed: int, dim: int = 16) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images that share descriptors, one with a single descriptor, one with none."""
    common = unit(30, 0)
    with h5py.File(tmp_path / "descriptors.h5", "w") as file:
        for seed, (name, count) in enumerate({"a": 30, "b": 20, "c": 10}.items(), start=1):
            file[name] = np.concatenate([common[:count], unit(15, seed)])
        file["one"], file["none"] = unit(1, 7), np.zeros((0, 16), np.float32)
    return tmp_path


def read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    with h5py.File(path) as file:
        return {a: {b: values[()] for b, values in group.items()} for a, group in file.items()}


def test_official_matches_are_identical(official: Path, tmp_path: Path) -> None:
    """Compare the file with that of match.py --rt 0.95 --save-threshold 100."""
    shutil.copy(official / "descriptors.h5", tmp_path)
    ours = read(match.main(tmp_path, rt=0.95, save_threshold=100))
    theirs = read(official / "matches.h5")
    assert {a: set(group) for a, group in ours.items()} == {a: set(g) for a, g in theirs.items()}
    for a, group in theirs.items():
        for b, expected in group.items():
            assert ours[a][b].dtype == expected.dtype
            np.testing.assert_array_equal(ours[a][b], expected)
    assert sum(map(len, theirs.values())) == 37


def test_groups_and_pairs(folder: Path) -> None:
    found = read(match.main(folder))
    assert set(found) == {"a", "b", "c", "none", "one"}
    assert {(a, b) for a, group in found.items() for b in group} == {
        ("a", "b"), ("a", "c"), ("b", "c")}  # fmt: skip
    for a, b, count in (("a", "b", 20), ("a", "c", 10), ("b", "c", 10)):
        assert found[a][b].dtype == np.int64
        assert {tuple(pair) for pair in found[a][b].T} >= {(i, i) for i in range(count)}
        assert (np.diff(found[a][b][0]) > 0).all()


def test_without_a_ratio_the_nearest_is_still_closer_than_the_second(folder: Path) -> None:
    with h5py.File(folder / "descriptors.h5", "a") as file:
        b = file["b"][()]
        b[5] = b[3]
        file["b"][...] = b
    found = read(match.main(folder))
    assert not {3, 5} & set(found["a"]["b"][0].tolist())


def test_options_change_what_is_written(folder: Path) -> None:
    strict = read(match.main(folder, rt=0.5, u16=True, save_threshold=20))
    assert strict["a"]["b"].dtype == np.uint16
    assert strict["a"]["b"].tolist() == [list(range(20))] * 2
    assert "c" not in strict["a"]
    halved = read(match.main(folder, rt=0.5, f16=True, overwrite=True))
    assert halved["a"]["c"].tolist() == [list(range(10))] * 2


def test_a_second_run_keeps_existing_pairs(folder: Path) -> None:
    path = match.main(folder)
    with h5py.File(path, "a") as file:
        del file["a"]["b"]
        file["a"]["c"][...] = 0
    found = read(match.main(folder))
    assert found["a"]["b"].shape[1] >= 20
    assert (found["a"]["c"] == 0).all()
    with pytest.raises(DiskHlocError) as error:
        match.main(folder, rt=0.9)
    one_line_error(error, path, "--overwrite")


def test_matches_of_the_released_script_are_added_to(folder: Path) -> None:
    with h5py.File(folder / "matches.h5", "w") as file:
        file["a/b"] = np.zeros((2, 1), np.int64)
    found = read(match.main(folder))
    assert found["a"]["b"].tolist() == [[0], [0]]
    assert found["b"]["c"].shape[1] >= 10


def in_chunks(d0: np.ndarray, d1: np.ndarray, rt: float, limit: int) -> list[tuple[int, int]]:
    """Match as the release does, chunk by chunk in float64."""

    def one_way(one: np.ndarray, other: np.ndarray, size: int) -> set[tuple[int, int]]:
        found = set()
        for start in range(0, len(other), size):
            distance = np.sqrt(np.maximum(1 - one @ other[start : start + size].T, 1e-6))
            if distance.shape[1] < 2:
                continue
            for i, row in enumerate(distance):
                nearest, second = np.argsort(row)[:2]
                if row[nearest] / row[second] < rt:
                    found.add((i, start + int(nearest)))
        return found

    forward = one_way(d0, d1, limit // len(d0))
    backward = one_way(d1, d0, limit // len(d1))
    return sorted(forward & {(i, j) for j, i in backward})


@settings(max_examples=40, deadline=None)
@given(
    counts=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    limit=st.sampled_from([80, 150, 400, 10**8]),
    rt=st.sampled_from([0.8, 0.95, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_chunks_are_those_of_the_release(counts, limit, rt, seed) -> None:
    d0, d1 = unit(counts[0], seed).astype(float), unit(counts[1], seed + 1).astype(float)
    ours = match.match_descriptors(torch.from_numpy(d0.T), torch.from_numpy(d1.T), rt, limit)
    assert [tuple(pair) for pair in ours.T.tolist()] == in_chunks(d0, d1, rt, limit)


def test_errors(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DiskHlocError) as error:
        match.main(folder, max_full_matrix=40)
    one_line_error(error, "--max-full-matrix must be at least twice")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DiskHlocError) as error:
        match.main(empty)
    one_line_error(error, empty / "descriptors.h5")
    with pytest.raises(DiskHlocError) as error:
        match._as_u16(np.array([[65536], [0]]), Path("m.h5"))
    one_line_error(error, "m.h5", "65536", "--u16")
