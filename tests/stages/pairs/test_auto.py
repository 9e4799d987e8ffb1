"""The pairs that suit a folder: all of a small one, and a number for each photo of a large one."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk_hloc import confs
from disk_hloc.stages.pairs import Photos
from disk_hloc.stages.pairs.auto import auto
from support.exif_photos import write_timed
from support.gps_photos import write_photo
from support.hloc_files import write_global


def options(**others: Any) -> dict[str, Any]:
    model = confs.packaged("pairs")["auto"]["model"]
    return {key: value for key, value in model.items() if key != "name"} | others


def describe(path: Path, names: list[str], scenes: int, seed: int = 0) -> Path:
    """Describe photos of scenes that share nothing; those of one scene are along a path."""
    rng = np.random.default_rng(seed)
    size = len(names) // scenes
    for scene in range(scenes):
        start, step = rng.normal(size=(2, 64))
        for i, name in enumerate(names[scene * size : (scene + 1) * size]):
            vector = start + 2 * i / size * step + 0.05 * rng.normal(size=64)
            write_global(path, name, (vector / np.linalg.norm(vector)).astype(np.float32))
    return path


def test_all_pairs_of_up_to_the_given_number(caplog: pytest.LogCaptureFixture) -> None:
    limit = options()["exhaustive_up_to"]
    names = [f"{i}.jpg" for i in range(limit)]
    with caplog.at_level(logging.INFO):
        assert len(auto(Photos(names), **options())) == limit * (limit - 1) // 2
    assert f"auto: all {limit * (limit - 1) // 2} pairs of {limit} photos" in caplog.text


def test_scenes_under_shuffled_names_are_paired_within_themselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{i}.jpg" for i in range(120)]
    random.Random(0).shuffle(names)
    path = describe(tmp_path / "g.h5", names, scenes=6)
    with caplog.at_level(logging.INFO):
        found = auto(Photos(names, describe=lambda: path, device="cpu"), **options())
    scene = {name: i // 20 for i, name in enumerate(names)}
    within = {frozenset(pair) for pair in found if scene[pair[0]] == scene[pair[1]]}
    assert len(within) == 6 * 190
    assert f"auto: {len(found)} pairs of 120 photos: retrieval" in caplog.text
    assert "no sequence" in caplog.text
    assert "GPS" not in caplog.text
    # Each photo has 19 others of its scene, and at most one more.
    assert len(set(map(frozenset, found))) <= 6 * 190 + 120


@pytest.mark.parametrize("by", ["name", "time"])
def test_neighbours_in_a_sequence_are_paired(
    by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [f"frame{i}.jpg" for i in range(90)]
    if by == "time":
        random.Random(0).shuffle(frames)
    for i, name in enumerate(frames):
        time = datetime(2026, 1, 1) + timedelta(seconds=i)
        write_timed(tmp_path / name, time if by == "time" else None)
    path = describe(tmp_path / "g.h5", frames, scenes=1)
    with caplog.at_level(logging.INFO):
        found = auto(
            Photos(sorted(frames), tmp_path, lambda: path, "cpu"), **options(num_matched=3)
        )
    assert f"the sequence by {by}" in caplog.text
    chosen = set(map(frozenset, found))
    assert {frozenset(pair) for pair in zip(frames, frames[10:], strict=False)} <= chosen
    assert {frozenset(pair) for pair in pairwise(frames)} <= chosen


def test_photos_taken_nearby_are_paired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{i:03}.jpg" for i in range(80)]
    places = list(range(80))
    random.Random(0).shuffle(places)
    for name, place in zip(names, places, strict=True):
        write_photo(tmp_path / name, 52 + 1e-4 * place, 13.0)
    shuffled = random.Random(1).sample(names, 80)
    path = describe(tmp_path / "g.h5", shuffled, scenes=1)
    with caplog.at_level(logging.INFO):
        found = auto(Photos(names, tmp_path, lambda: path, "cpu"), **options(num_matched=2))
    assert "GPS, as 80 photos have it" in caplog.text
    at = dict(zip(places, names, strict=True))
    chosen = set(map(frozenset, found))
    assert {frozenset((at[i], at[i + 1])) for i in range(79)} <= chosen
