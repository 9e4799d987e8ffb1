"""The choice of pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.pairs import read_pairs
from disk_hloc.stages import pairs


def test_exhaustive_pairs_of_a_folder(scene: Path, tmp_path: Path) -> None:
    path = pairs.main("exhaustive", scene / "images", tmp_path / "new" / "pairs.txt")
    assert read_pairs(path) == list(combinations([f"{i:04}.jpg" for i in range(5)], 2))


def test_one_image_makes_no_pair(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DiskHlocError, match="needs two"):
        pairs.main("exhaustive", tmp_path, tmp_path / "pairs.txt")
    assert not (tmp_path / "pairs.txt").exists()


def test_an_unknown_method_lists_the_known(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="known: exhaustive"):
        pairs.main("psychic", scene / "images", tmp_path / "pairs.txt")


def test_given_pairs_lose_those_of_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a b\nb c\nc d\n")
    path = pairs.given(tmp_path / "mine.txt", tmp_path / "pairs.txt", without=["a"])
    assert read_pairs(path) == [("b", "c"), ("c", "d")]
    with pytest.raises(DiskHlocError, match="every pair"):
        pairs.given(tmp_path / "mine.txt", tmp_path / "pairs.txt", without=["b", "c"])
