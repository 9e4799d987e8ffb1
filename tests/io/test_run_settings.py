"""Folders of results refuse to be resumed with other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import run_settings
from support.errors import one_line_error

SETTINGS: dict[str, Any] = {"images": ["a", "b", "c"], "size": (4, 3), "limits": {1: 0.5}}


def test_the_same_settings_are_accepted_however_json_writes_them(tmp_path: Path) -> None:
    for _ in range(2):
        run_settings.claim(tmp_path / "out", SETTINGS, made=[])
    stored = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert stored.pop("made_by") == "disk_hloc"
    assert stored == {"images": ["a", "b", "c"], "size": [4, 3], "limits": {"1": 0.5}}
    assert run_settings.differences(stored, SETTINGS) == []


def test_other_settings_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    run_settings.claim(tmp_path, SETTINGS, made=[])
    before = (tmp_path / "settings.json").read_bytes()
    changed = {**SETTINGS, "size": (5, 3), "images": ["a", "b", "c", "d"], "seed": 1}
    with pytest.raises(DiskHlocError) as error:
        run_settings.claim(tmp_path, changed, made=[])
    assert one_line_error(
        error, tmp_path, "size ([4, 3], now [5, 3])", "images (3 of them, now 4 of them)",
        "seed (None, now 1)", "--overwrite",
    )  # fmt: skip
    assert "limits" not in str(error.value)
    assert (tmp_path / "settings.json").read_bytes() == before


def test_overwrite_removes_what_was_made_and_nothing_else(tmp_path: Path) -> None:
    run_settings.claim(tmp_path, SETTINGS, made=[])
    (tmp_path / "model").mkdir()
    for name in ("model/points.bin", "weights.pth", "mine.txt"):
        (tmp_path / name).write_text("")
    changed = {**SETTINGS, "seed": 1}
    run_settings.claim(tmp_path, changed, made=["model", "weights.pth", "absent"], overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "settings.json"}
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 1


@pytest.mark.parametrize("text", ["", "{", "3", "[1]"])
def test_a_broken_file_is_an_error_that_says_how_to_go_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DiskHlocError) as error:
        run_settings.claim(tmp_path, SETTINGS, made=[])
    assert one_line_error(error, tmp_path / "settings.json", "remove it")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("settings", [None, {"editor.fontSize": 12}])
def test_what_no_run_made_is_not_removed(
    tmp_path: Path, overwrite: bool, settings: dict[str, Any] | None
) -> None:
    mine = tmp_path / "dataset" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    if settings:
        (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(DiskHlocError) as error:
        run_settings.claim(tmp_path, SETTINGS, made=["dataset"], overwrite=overwrite)
    assert one_line_error(error, tmp_path)
    assert mine.read_text() == "mine"
    assert (tmp_path / "settings.json").exists() == bool(settings)


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(run_settings.as_stored(SETTINGS)))
    (tmp_path / "model").mkdir()
    run_settings.claim(tmp_path, SETTINGS, made=["model"])
    assert (tmp_path / "model").exists()
