"""Rigs in JSON, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.rigs import read_rig
from support.errors import one_line_error


def photo(**changed: Any) -> dict[str, Any]:
    pose = {"quaternion": [2, 0, 0, 0], "translation": [0.5, 0, -1]}
    return {"image": "a/1.jpg", "camera": "PINHOLE 5,5,4,3", "cam_from_rig": pose, **changed}


def test_a_rig(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    path.write_text(json.dumps([photo(), photo(image="./b.jpg")]))
    first, second = read_rig(path)
    assert (first.name, second.name) == ("a/1.jpg", "b.jpg")
    assert first.camera == "PINHOLE 5,5,4,3"
    np.testing.assert_array_equal(first.cam_from_rig.quaternion, [1, 0, 0, 0])
    np.testing.assert_array_equal(first.cam_from_rig.translation, [0.5, 0, -1])


def pose(**changed: Any) -> dict[str, Any]:
    return photo(cam_from_rig={**photo()["cam_from_rig"], **changed})


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([], "has no photos"),
        ({}, "has no photos"),
        (5, "is not a rig"),
        ([photo(), photo()], "names a/1.jpg twice"),
        ([photo(image="../1.jpg")], "leaves its folder"),
        ([photo(image=5)], "are texts"),
        ([photo(camera="PINHOLE 5")], "has the parameters"),
        ([photo(camera=None)], "are texts"),
        ([photo(cam_from_rig=None)], "is not a rig"),
        ([pose(quaternion=[0, 0, 0, 0])], "impossible"),
        ([pose(quaternion=[1, 0, 0])], "four numbers"),
        ([pose(translation=[0, 0, 1e999])], "impossible"),
        ([pose(translation=["x", 0, 0])], "is not a rig"),
        ([{"image": "a.jpg"}], "is not a rig"),
    ],
)
def test_a_broken_rig(content: Any, part: str, tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DiskHlocError) as error:
        read_rig(path)
    assert one_line_error(error, part)
