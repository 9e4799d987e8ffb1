"""All pairs, and the pairs of a sequence."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.stages import pairs
from disk_hloc.stages.pairs.names import in_sequence, sequential
from support.exif_photos import write_timed
from support.hloc_files import write_global


def lines(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in path.read_text().splitlines()]


def test_exhaustive_pairs_of_a_folder(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i:04}.jpg").touch()
    path = pairs.main("exhaustive", tmp_path, tmp_path / "new" / "pairs.txt")
    assert read_pairs(path) == list(combinations([f"{i:04}.jpg" for i in range(5)], 2))


def test_a_single_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    for method in ("exhaustive", "sequential", "auto"):
        with pytest.raises(DiskHlocError, match="needs two"):
            pairs.main(method, tmp_path, tmp_path / "pairs.txt")
        assert not (tmp_path / "pairs.txt").exists()


def test_sequential_pairs_have_the_given_overlap(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"frame{i}.jpg").touch()
    path = pairs.main("sequential", tmp_path, tmp_path / "pairs.txt", overlap=2, quadratic=False)
    places = [[int(name.strip("frame.jpg")) for name in pair] for pair in lines(path)]
    assert sorted(b - a for a, b in places) == [1] * 11 + [2] * 10
    path = pairs.main("sequential", tmp_path, tmp_path / "pairs.txt", overlap=4, quadratic=True)
    places = [[int(name.strip("frame.jpg")) for name in pair] for pair in lines(path)]
    assert sorted({b - a for a, b in places}) == [1, 2, 3, 4, 8]


def test_times_order_photos_if_all_have_one(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, 12)
    for name, seconds in (("a.jpg", 20), ("b.jpg", 0), ("c.jpg", 10)):
        write_timed(tmp_path / name, start + timedelta(seconds=seconds))
    names = ["a.jpg", "b.jpg", "c.jpg"]
    assert in_sequence(pairs.Photos(names, tmp_path)) == ["b.jpg", "c.jpg", "a.jpg"]
    write_timed(tmp_path / "d.jpg", None)
    names.append("d.jpg")
    assert in_sequence(pairs.Photos(names, tmp_path)) == names


def test_loops_are_closed_by_photos_that_look_alike(tmp_path: Path) -> None:
    """Of a round trip: each photo looks like its neighbours, and the last like the first."""
    names = [f"{i}.jpg" for i in range(40)]
    for i, name in enumerate(names):
        angle = 2 * np.pi * i / 40
        vector = np.array([np.cos(angle), np.sin(angle), 2], np.float32)
        write_global(tmp_path / "g.h5", name, vector / np.linalg.norm(vector))
    photos = pairs.Photos(names, describe=lambda: tmp_path / "g.h5")
    found = sequential(photos, overlap=2, loop_period=10, loop_matched=3)
    assert {("0.jpg", "39.jpg"), ("0.jpg", "38.jpg")} <= set(found)
    assert set(pairwise(names)) <= set(found)
    assert len(found) == len(set(map(frozenset, found))) == 39 + 38 + 4 * 3
