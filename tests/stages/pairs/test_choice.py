"""What ``--pairs`` says: methods and files, alone and joined."""

from __future__ import annotations

import logging
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.stages import pairs
from support.errors import one_line_error
from support.gps_photos import write_photo
from support.hloc_files import write_global

NAMES = [f"{i}.jpg" for i in range(12)]


@pytest.fixture
def photos(tmp_path: Path) -> pairs.Photos:
    """Photos without EXIF, of which each looks like the one with the same remainder by three."""
    for i, name in enumerate(NAMES):
        vector = np.full(3, 0.1, np.float32)
        vector[i % 3] = 1
        write_global(tmp_path / "g.h5", name, vector / np.linalg.norm(vector))
    return pairs.Photos(NAMES, tmp_path, lambda: tmp_path / "g.h5", "cpu")


def chosen(choice: str, photos: pairs.Photos, output: Path) -> list[tuple[str, str]]:
    path = pairs.choose(choice, photos, output / "pairs.txt")
    found = read_pairs(path)
    assert len(found) == len(path.read_text().splitlines())  # reading merges duplicates
    return found


def test_methods_are_joined_and_each_pair_is_written_once(
    photos: pairs.Photos, tmp_path: Path
) -> None:
    alike = tmp_path / "alike.yaml"
    alike.write_text("output: x\nmodel: {name: retrieval, num_matched: 3}\n")
    near = tmp_path / "near.yaml"
    near.write_text("output: x\nmodel: {name: sequential, overlap: 1, loop_period: 0}\n")
    by_looks = {
        (a, b) for a, b in combinations(sorted(NAMES), 2) if (int(a[:-4]) - int(b[:-4])) % 3 == 0
    }
    in_order = {(min(pair), max(pair)) for pair in pairwise(NAMES)}
    assert set(chosen(str(alike), photos, tmp_path)) == by_looks
    found = chosen(f"{alike}+{near}", photos, tmp_path)
    assert set(found) == by_looks | in_order
    assert len(found) == len(by_looks | in_order)
    assert len(chosen("exhaustive+retrieval+sequential", photos, tmp_path)) == 66


def test_a_file_may_be_joined_and_may_have_a_plus_in_its_name(
    photos: pairs.Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my+pairs.txt").write_text("9.jpg 2.jpg\n")
    assert chosen("my+pairs.txt", photos, tmp_path) == [("9.jpg", "2.jpg")]
    Path("mine.txt").write_text("9.jpg 2.jpg\n0.jpg 3.jpg\n")
    found = chosen("mine.txt+retrieval", photos, tmp_path)
    assert found[:2] == [("9.jpg", "2.jpg"), ("0.jpg", "3.jpg")]
    assert len(found) == 66


@pytest.mark.parametrize(
    ("choice", "parts"),
    [
        ("psychic", ["--pairs psychic", "auto, exhaustive, retrieval, sequential, spatial"]),
        ("retreival", ["did you mean 'retrieval'?"]),
        ("retrieval+nothing.txt", ["'nothing.txt' of --pairs retrieval+nothing.txt"]),
        ("retrieval+", ["'' of --pairs retrieval+"]),
        ("", ["neither a method nor a file"]),
        ("covisibility", ["a model", "`disk-hloc pairs covisibility MODEL PAIRS.txt`"]),
        ("mine.txt", ["mine.txt pairs 1 images that are not among the photos", ": 77.jpg"]),
        ("a.yaml", ["model: name: psychic"]),
        ("b.yaml", ["unknown key 'num_mached'", "num_matched"]),
        ("c.yaml", ["num_matched: 0, expected a whole number"]),
        ("spatial", ["none of the 12 photos", "GPS"]),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_photos_are_described(
    choice: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("9.jpg 2.jpg\n9.jpg 77.jpg\n")
    for name, model in (
        ("a", {"name": "psychic"}),
        ("b", {"name": "retrieval", "num_mached": 3}),
        ("c", {"name": "retrieval", "num_matched": 0}),
    ):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"output": "x", "model": model}))
    with pytest.raises(DiskHlocError) as error:
        pairs.check_choice(choice, pairs.Photos(NAMES, tmp_path))
    assert one_line_error(error, *parts)


def test_pairs_are_without_the_images_that_were_left_out(tmp_path: Path) -> None:
    photos = pairs.Photos(["a", "b", "c", "d"])
    path = tmp_path / "pairs.txt"
    pairs.choose("exhaustive", photos, path, without={"b": "truncated"})
    assert read_pairs(path) == [("a", "c"), ("a", "d"), ("c", "d")]
    mine = tmp_path / "mine.txt"
    mine.write_text("d a\na b\n")
    pairs.choose(str(mine), photos, path, without={"b": "truncated"})
    assert read_pairs(path) == [("d", "a")]
    with pytest.raises(DiskHlocError, match=r"all pairs of .*mine"):
        pairs.choose(str(mine), photos, path, without={"a": "truncated"})


def test_gps_that_is_missing_is_a_warning_if_others_choose_too(
    photos: pairs.Photos, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs.check_choice("spatial+sequential", photos)
    with caplog.at_level(logging.WARNING):
        found = chosen("spatial+sequential", photos, tmp_path)
    assert len(found) == 66
    assert "none of the 12 photos" in caplog.text
    for name in NAMES[:2]:
        write_photo(tmp_path / name, 52.0, 13.0)
    located = pairs.Photos(NAMES, tmp_path, photos.describe, "cpu")
    pairs.check_choice("spatial", located)
    assert chosen("spatial", located, tmp_path) == [("0.jpg", "1.jpg")]
