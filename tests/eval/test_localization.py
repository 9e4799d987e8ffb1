"""Errors and recall of localized queries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.localization import errors_of, evaluate, text
from disk_hloc.geometry import Pose


def pose(center: tuple[float, float, float], degrees: float = 0.0) -> Pose:
    rotation = Rotation.from_euler("y", degrees, degrees=True)
    x, y, z, w = rotation.as_quat()
    return Pose(np.array([w, x, y, z]), -rotation.as_matrix() @ np.array(center))


def test_errors_are_those_of_the_centre_and_the_orientation() -> None:
    position, rotation = errors_of(pose((1, 2, 3), 30), pose((1, 2, 5), 27))
    assert position == pytest.approx(2)
    assert rotation == pytest.approx(3)
    assert errors_of(None, pose((0, 0, 0))) == (math.inf, math.inf)


def test_recall_by_hand() -> None:
    truth = {f"query/day/{i}.jpg": pose((0, 0, 0)) for i in range(3)}
    truth["query/night/3.jpg"] = pose((0, 0, 0))
    found = {
        "query/day/0.jpg": pose((0.2, 0, 0), 1),  # all
        "query/day/1.jpg": pose((0.2, 0, 0), 3),  # the second
        "query/day/2.jpg": pose((4, 0, 0), 9),  # the third
    }
    figures = evaluate(found, truth)
    assert figures["all"]["recall"] == [0.25, 0.5, 0.75]
    assert figures["day"]["recall"] == pytest.approx([1 / 3, 2 / 3, 1])
    assert figures["night"]["recall"] == [0, 0, 0]
    assert figures["night"]["median_position"] is None
    assert figures["day"]["median_position"] == pytest.approx(0.2)
    assert figures["day"]["median_rotation"] == pytest.approx(3)
    assert "night 0 of 1 localized" in text(figures)


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(DiskHlocError, match="no known poses"):
        evaluate({}, {})
