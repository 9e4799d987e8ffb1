"""Pairs of photos that were taken near each other."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.exif import Position
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.stages import pairs
from disk_hloc.stages.pairs.gps import nearest
from support.errors import one_line_error
from support.exif_photos import write_timed
from support.gps_photos import write_photo

# Of a degree of latitude at the equator.
DEGREE_M = 110574.0


def test_photos_are_paired_with_the_nearest_within_a_distance() -> None:
    places = {f"{metres}.jpg": Position(metres / DEGREE_M, 13) for metres in (0, 10, 25, 300)}
    found = nearest(places, 1, 100.0)
    assert found == [("0.jpg", "10.jpg"), ("10.jpg", "0.jpg"), ("25.jpg", "10.jpg")]


def test_photos_on_both_sides_of_the_date_line_are_near() -> None:
    places = {"a.jpg": Position(60, 180), "b.jpg": Position(60, -179.999)}
    assert nearest(places, 1, 56.0) == [("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")]
    assert nearest(places, 1, 55.0) == []


def test_many_photos_of_one_place_are_not_paired_with_themselves() -> None:
    places = {f"{i}.jpg": Position(52, 13) for i in range(50)}
    found = nearest(places, 3, 100.0)
    assert len(found) == 150
    assert all(a != b for a, b in found)


def test_drone_photos_are_paired_along_and_across_the_flight(data: Path, tmp_path: Path) -> None:
    images = data / "folders" / "brighton" / "images"
    path = pairs.main("spatial", images, tmp_path / "pairs.txt", num_matched=3, max_distance=30)
    found = {frozenset(int(name[4:8]) for name in pair) for pair in read_pairs(path)}
    # Legs of six photos 16 m apart, flown in turns.
    assert {frozenset((i, i + 1)) for i in range(24, 29)} <= found
    assert frozenset((25, 34)) in found or frozenset((25, 19)) in found
    assert frozenset((18, 23)) not in found


def test_photos_without_a_position_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_photo(tmp_path / "a.jpg", 52.0, 13.0)
    write_timed(tmp_path / "c.jpg", None)
    with pytest.raises(DiskHlocError) as error:
        pairs.main("spatial", tmp_path, tmp_path / "pairs.txt")
    assert one_line_error(error, "1 of the 2 photos", str(tmp_path), "choose other pairs")
    write_photo(tmp_path / "b.jpg", 52.0001, 13.0)
    with caplog.at_level(logging.WARNING):
        path = pairs.main("spatial", tmp_path, tmp_path / "pairs.txt")
    assert read_pairs(path) == [("a.jpg", "b.jpg")]
    assert "1 of 3 photos have no GPS position, so it gives them no pairs: c.jpg" in caplog.text
    with pytest.raises(DiskHlocError, match="within 5 m"):
        pairs.main("spatial", tmp_path, tmp_path / "pairs.txt", max_distance=5)
