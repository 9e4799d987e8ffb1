"""Tables as text and Markdown, and the files of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disk_hloc.report import tables

LINES = [["row", "points"], ["disk", "12"], ["a long name", "3"]]


def test_columns_are_aligned() -> None:
    assert tables.aligned(LINES).splitlines() == [
        "-------------------",
        "row          points",
        "-------------------",
        "disk             12",
        "a long name       3",
        "-------------------",
    ]


def test_results_are_written_as_json_and_as_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    tables.write(folder, "Points", {"disk": 12}, LINES, "Points are means.\n\nOf a photo.")
    assert json.loads((folder / "results.json").read_text()) == {"disk": 12}
    assert (folder / "results.md").read_text().splitlines() == [
        "# Points",
        "",
        "| row | points |",
        "|---|---:|",
        "| disk | 12 |",
        "| a long name | 3 |",
        "",
        "Points are means.",
        "",
        "Of a photo.",
    ]


def test_former_results_stay_whole_if_writing_fails(tmp_path: Path, monkeypatch) -> None:
    tables.write(tmp_path, "Points", {"disk": 12}, LINES, "")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Exception, match="space"):
        tables.write(tmp_path, "Points", {"disk": 13}, LINES, "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_an_empty_mapping_is_left_out() -> None:
    assert "turned" not in tables.key_values({"images": 3, "turned": {}, "seconds": {"map": 1}})


def test_missing_photos_are_listed_up_to_a_number() -> None:
    reasons = {f"a_{i}.jpg": "no keypoints" for i in range(5)}
    lines = tables.missing_photos(reasons, at_most=2).splitlines()
    assert lines == [
        "Not in the model:",
        "a_0.jpg  no keypoints",
        "a_1.jpg  no keypoints",
        "... and 3 more: summary.json has all",
    ]
