"""hloc's matches file: names of groups, index types, reading a pair in both orders."""

from __future__ import annotations

from itertools import combinations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.matches import (
    find_pair,
    names_alike,
    names_to_pair,
    pair_group,
    read_matches,
    require_distinct_groups,
    require_names_of_hloc,
)
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import names_with
from support.errors import one_line_error
from support.hloc_files import write_matches


@pytest.mark.parametrize(
    ("name0", "name1", "group"),
    [
        ("a.jpg", "b.jpg", "a.jpg/b.jpg"),
        ("db/1/a.jpg", "query/b.jpg", "db-1-a.jpg/query-b.jpg"),
        ("ü/漢.jpg", "a-b.jpg", "ü-漢.jpg/a-b.jpg"),
    ],
)
def test_group_of_a_pair_is_hlocs(tmp_path, name0, name1, group):
    assert names_to_pair(name0, name1) == group
    path = tmp_path / "matches.h5"
    write_matches(path, (name0, name1), np.array([1, -1, 0]), np.array([0.5, 0, 1]))
    with h5py.File(path) as file:
        assert set(file[group]) == {"matches0", "matching_scores0"}
        np.testing.assert_array_equal(file[group]["matches0"][()], [1, -1, 0])
        scores = file[group]["matching_scores0"]
        assert scores.dtype == np.float16
        np.testing.assert_array_equal(scores[()], [0.5, 0, 1])


def test_names_that_hloc_cannot_tell_apart_have_groups_of_their_own(tmp_path):
    path = tmp_path / "matches.h5"
    names = ["a/b.jpg", "a-b.jpg", "c/d.jpg"]
    pairs = list(combinations(names, 2))
    alike = names_alike(names)
    assert alike == {"a/b.jpg", "a-b.jpg"}
    with h5py.File(path, "w") as file:
        for i, pair in enumerate(pairs):
            file[f"{pair_group(*pair, alike)}/matches0"] = np.array([i])
    with reading(path) as file:
        for i, (first, second) in enumerate(pairs):
            np.testing.assert_array_equal(read_matches(file, first, second), [[0, i]])
            np.testing.assert_array_equal(read_matches(file, second, first), [[i, 0]])
        assert sorted(names_with(file, "matches0")) == [
            "a-b.jpg/c/d.jpg", "a/b.jpg/a-b.jpg", "a/b.jpg/c/d.jpg",
        ]  # fmt: skip
    assert pair_group("c/d.jpg", "e.jpg", alike) == "c-d.jpg/e.jpg"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["my photo.jpg"], "white space"),
        (["#1.jpg"], "comment"),
        (["a/b.jpg", "a-b.jpg"], "cannot distinguish 'a-b.jpg' and 'a/b.jpg'"),
    ],
)
def test_names_that_hloc_itself_cannot_read(names, reason):
    with pytest.raises(DiskHlocError) as error:
        require_names_of_hloc(["x.jpg", *names])
    assert one_line_error(error, reason, "--engine native", "rename")


@st.composite
def partial_maps(draw):
    """An injective map from some of N0 keypoints to some of N1, with -1 for no match."""
    num0, num1 = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    targets = draw(st.permutations(range(num1)))[:num0]
    targets += [-1] * (num0 - len(targets))
    kept = draw(st.lists(st.booleans(), min_size=num0, max_size=num0))
    targets = [target if keep else -1 for target, keep in zip(targets, kept, strict=True)]
    return np.array(draw(st.permutations(targets)), dtype=np.int64)


@given(matches0=partial_maps())
@settings(deadline=None)
def test_round_trip_in_both_orders(tmp_path_factory, matches0):
    path = tmp_path_factory.mktemp("matches") / "matches.h5"
    write_matches(path, ("db/a", "b"), matches0, np.ones(len(matches0)))
    expected = [(i, j) for i, j in enumerate(matches0.tolist()) if j >= 0]
    with reading(path) as file:
        forward, backward = read_matches(file, "db/a", "b"), read_matches(file, "b", "db/a")
        assert find_pair(file, "db/a", "b") == ("db-a/b", False)
        assert find_pair(file, "b", "db/a") == ("db-a/b", True)
    assert forward.shape == backward.shape == (len(expected), 2)
    assert forward.dtype == backward.dtype == np.int64
    assert [tuple(row) for row in forward] == expected
    assert [tuple(row) for row in backward] == [(j, i) for i, j in expected]


@pytest.mark.parametrize(
    ("largest", "dtype"), [(-1, "i2"), (32766, "i2"), (32767, "i2"), (32768, "i4"), (99999, "i4")]
)
def test_indices_are_int16_if_they_fit(tmp_path, largest, dtype):
    path = tmp_path / "matches.h5"
    write_matches(path, ("a", "b"), np.array([-1, largest, 5]), np.zeros(3))
    with reading(path) as file:
        assert file["a/b/matches0"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(file["a/b/matches0"][()], [-1, largest, 5])
        expected = [[1, largest]] * (largest >= 0) + [[2, 5]]
        np.testing.assert_array_equal(read_matches(file, "a", "b"), expected)


def test_an_image_with_more_keypoints_than_fit_in_int16_is_read_in_both_orders(tmp_path):
    path = tmp_path / "matches.h5"
    matches0 = np.full(70000, -1)
    matches0[69999] = 40000
    write_matches(path, ("a", "b"), matches0, np.zeros(70000))
    with reading(path) as file:
        np.testing.assert_array_equal(read_matches(file, "b", "a"), [[40000, 69999]])


def test_a_missing_pair(tmp_path):
    path = tmp_path / "matches.h5"
    write_matches(path, ("a", "b"), np.array([0]), np.ones(1))
    with h5py.File(path, "a") as file:
        # What hloc leaves behind when it is interrupted.
        file.create_group("a/c")["matching_scores0"] = [1.0]
    with reading(path) as file:
        for name0, name1 in (("a", "z"), ("a", "c"), ("c", "a"), ("a", "a")):
            assert find_pair(file, name0, name1) is None
            assert read_matches(file, name0, name1) is None


def test_writing_again_replaces(tmp_path):
    path = tmp_path / "matches.h5"
    write_matches(path, ("a", "b"), np.array([3, 2, 1]), np.ones(3))
    write_matches(path, ("a", "b"), np.array([40000]), np.ones(1))
    with reading(path) as file:
        np.testing.assert_array_equal(read_matches(file, "a", "b"), [[0, 40000]])
        assert file["a/b/matching_scores0"].shape == (1,)


@pytest.mark.parametrize(
    "names", [["a/b.jpg", "c.jpg", "a-b.jpg"], ["a/b/c", "a/b-c"], ["a-b/c", "a/b-c"]]
)
def test_names_that_share_a_group_are_refused(names):
    with pytest.raises(DiskHlocError, match="cannot distinguish") as error:
        require_distinct_groups(names)
    assert "\n" not in str(error.value)
    assert repr(names[0]) in str(error.value)
    assert repr(names[-1]) in str(error.value)


def test_names_with_different_groups_are_accepted():
    require_distinct_groups(["a/b.jpg", "a/b.jpg", "a_b.jpg", "b/a.jpg", "a/c.jpg"])
