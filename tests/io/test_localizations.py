"""Results in the forms that their suffixes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.localizations import json_line, require_outputs, write_answers

FOUND: dict[str, Any] = {
    "reason": None,
    "cam_from_world": {"quaternion": [0.5, 0.5, -0.5, 0.5], "translation": [1.25, 1 / 3, -2e5]},
    "position": {"latitude": 48.5, "longitude": -9.25, "altitude": 512.0},
    "heading": 90.5,
    "inliers": 123,
    "center_covariance": [[0.01, 0.006, 0], [0.006, 0.01, 0], [0, 0, 0.0025]],
}
NOT_FOUND: dict[str, Any] = {"reason": "another place", "cam_from_world": None, "position": None}
ANSWERS = {"my photo 1.jpg": FOUND, "b.jpg": NOT_FOUND, "c.jpg": {"error": "no photo"}}


def test_poses_are_those_of_localized_photos(tmp_path: Path) -> None:
    write_answers(tmp_path / "poses.txt", ANSWERS, {})
    poses = read_poses(tmp_path / "poses.txt")
    assert list(poses) == ["my photo 1.jpg"]
    np.testing.assert_allclose(poses["my photo 1.jpg"].quaternion, [0.5, 0.5, -0.5, 0.5])
    np.testing.assert_allclose(poses["my photo 1.jpg"].translation, [1.25, 1 / 3, -2e5])


def test_json_has_all_and_is_json(tmp_path: Path) -> None:
    answers = {**ANSWERS, "d.jpg": {**FOUND, "covariance": [[np.inf]]}}
    write_answers(tmp_path / "all.JSON", answers, {"map": "m"})
    content = json.loads((tmp_path / "all.JSON").read_text())
    assert content["map"] == "m"
    assert content["photos"] == {**ANSWERS, "d.jpg": {**FOUND, "covariance": [[None]]}}
    assert json.loads(json_line("d.jpg", answers["d.jpg"]))["covariance"] == [[None]]


def test_geojson_has_accuracies_of_95_percent(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.geojson", ANSWERS, {})
    content = json.loads((tmp_path / "a.geojson").read_text())
    first, second, third = content["features"]
    assert first["geometry"] == {"type": "Point", "coordinates": [-9.25, 48.5]}
    properties = first["properties"]
    assert properties["altitude"] == 512
    assert properties["heading"] == 90.5
    # Of the direction in which the covariance is largest: the variance is 0.016.
    drawn = np.random.default_rng(0).multivariate_normal([0, 0], 0.016 * np.eye(2), size=20000)
    within = (np.linalg.norm(drawn, axis=1) < properties["accuracy"]).mean()
    assert within == pytest.approx(0.95, abs=0.005)
    assert properties["altitudeAccuracy"] == pytest.approx(1.96 * 0.05, rel=1e-3)
    assert second["geometry"] is None
    assert second["properties"] == {"name": "b.jpg", "reason": "another place"}
    assert third["properties"] == {"name": "c.jpg", "reason": "no photo"}


def test_geojson_needs_a_place_on_the_earth(tmp_path: Path) -> None:
    require_outputs([tmp_path / "a.geojson"], True, {})
    with pytest.raises(DiskHlocError, match="--georeference"):
        require_outputs([tmp_path / "a.geojson"], False, {})
