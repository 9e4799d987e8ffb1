"""Merging several data sets into one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.dataset import merge
from disk_hloc.errors import DiskHlocError
from support.errors import one_line_error


def make(folder: Path, *names: str, size: int = 3, **changes: Any) -> Path:
    scenes: dict[str, Any] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for kind in ("images", "calibration", "depth"):
            (folder / name / kind).mkdir(parents=True, exist_ok=True)
        scenes[name] = {
            "image_path": f"{name}/images",
            "calib_path": str(folder.absolute() / name / "calibration"),
            "depth_path": f"{name}/depth",
            "images": [f"{i}.jpg" for i in range(size)],
            "tuples": [list(range(size))],
            **changes,
        }
    (folder / "dataset.json").write_text(json.dumps(scenes))
    return folder / "dataset.json"


def test_folders_are_adjusted_and_names_stay_distinct(tmp_path: Path) -> None:
    first = make(tmp_path / "a", "x", "y")
    second = make(tmp_path / "b" / "c", "x", "c-x")
    third = make(tmp_path / "d" / "c", "x")
    out = tmp_path / "e" / "f" / "all.json"
    arguments = ["dataset", "merge", *map(str, (first, second.parent, third, out))]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    scenes = json.loads(out.read_text())
    expected = {
        "x": tmp_path / "a" / "x",
        "y": tmp_path / "a" / "y",
        "c-x": tmp_path / "b" / "c" / "x",
        "c-c-x": tmp_path / "b" / "c" / "c-x",
        "c-x-2": tmp_path / "d" / "c" / "x",
    }
    assert list(scenes) == list(expected)
    for name, folder in expected.items():
        scene = scenes[name]
        assert not Path(scene["image_path"]).is_absolute()
        assert (out.parent / scene["image_path"]).samefile(folder / "images")
        assert (out.parent / scene["depth_path"]).samefile(folder / "depth")
        assert scene["calib_path"] == str(folder / "calibration")
        assert scene["images"] == ["0.jpg", "1.jpg", "2.jpg"]
        assert scene["tuples"] == [[0, 1, 2]]
    with pytest.raises(DiskHlocError) as error:
        merge.main([first, second], out)
    assert one_line_error(error, out, "--overwrite")
    merge.main([first], out, overwrite=True)
    assert list(json.loads(out.read_text())) == ["x", "y"]


def test_a_warning_names_the_scenes_without_depth(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As the release writes it with --no-depth.
    merge.main(
        [make(tmp_path / "a", "x"), make(tmp_path / "b", "y", depth_path="")],
        tmp_path / "all.json",
    )
    assert "1 of 2 scenes have no depth" in caplog.text
    assert "depth_path" not in json.loads((tmp_path / "all.json").read_text())["y"]


def test_the_error_names_what_cannot_be_merged(tmp_path: Path) -> None:
    first, pairs = make(tmp_path / "a", "x"), make(tmp_path / "b", "y", size=2)
    out = tmp_path / "all.json"
    for sources, parts in (
        ([first, pairs], ["different sizes", "2 in y", "3 in x"]),
        ([first, first.parent], ["twice", first]),
        ([tmp_path / "no.json"], [tmp_path / "no.json"]),
        ([make(tmp_path / "c", "z", image_path="gone")], ["scene z", "image_path", "gone"]),
        ([make(tmp_path / "d", "z", tuples=[[0, 3]])], ["scene z", "outside its 3 images"]),
        ([make(tmp_path / "e", "z", images="a.jpg")], ["scene z", "not a list of names"]),
        ([make(tmp_path / "a" / "f")], ["expected a mapping from names to scenes"]),
    ):
        with pytest.raises(DiskHlocError) as error:
            merge.main(sources, out)
        assert one_line_error(error, *parts)
        assert not out.exists()
    with pytest.raises(DiskHlocError, match="one of the data sets"):
        merge.main([first], first, overwrite=True)
    with pytest.raises(DiskHlocError, match="is a folder"):
        merge.main([first], tmp_path)
    result = CliRunner().invoke(app, ["dataset", "merge", str(first)])
    assert one_line_error_of(result, "OUT.json")


def one_line_error_of(result: Any, part: str) -> bool:
    return isinstance(result.exception, DiskHlocError) and part in str(result.exception)
