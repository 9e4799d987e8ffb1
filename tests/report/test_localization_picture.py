"""The picture of a localized photo, looked at pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disk_hloc.geometry import Pose
from disk_hloc.io.map_index import MapIndex
from disk_hloc.report.localization_picture import (
    INLIER_COLOR,
    MAP_HEIGHT,
    PHOTO_COLOR,
    WIDTH,
    InMap,
    Panel,
    draw,
    from_above,
)

# Looks north from the origin, with z up: x right is east, y down is -z, z forward is north.
NORTHWARD = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
QUATERNION = np.array([np.sqrt(0.5), np.sqrt(0.5), 0, 0])


def looking_north(center: list[float]) -> Pose:
    pose = Pose(QUATERNION, -NORTHWARD @ np.array(center))
    np.testing.assert_allclose(pose.rotation, NORTHWARD, atol=1e-12)
    return pose


@pytest.fixture
def index() -> MapIndex:
    """Two cameras 4 units apart that look at a wall 10 units to the north of them."""
    poses = [looking_north([-2, 0, 0]), looking_north([2, 0, 0])]
    xyz = np.column_stack([np.linspace(-4, 4, 200), np.full(200, 10.0), np.linspace(0, 3, 200)])
    empty = np.zeros((0, 2), np.float32)
    return MapIndex(
        names=["a.jpg", "b.jpg"],
        sizes=np.array([[60, 40], [60, 40]]),
        poses=np.array([np.concatenate([p.quaternion, p.translation]) for p in poses]),
        turns=np.array([0, 0]),
        starts=np.zeros(3, int), keypoints=empty, descriptors=empty, points=np.zeros(0, int),
        xyz=xyz, colors=np.full((200, 3), 200, np.uint8), point_ids=np.arange(200),
        global_descriptors=np.zeros((2, 4), np.float32), look_starts=np.zeros(3, int),
        look_places=empty, look_octaves=empty, look_angles=empty, look_descriptors=empty,
        cameras={}, camera_ids=[1, 1], devices=[None, None],
    )  # fmt: skip


def middle_of(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """The mean x and y of a colour, without the legend at the left."""
    pixels = np.asarray(picture).astype(int)[:, 240:]
    rows, columns = np.nonzero(np.abs(pixels - color).max(axis=2) < 40)
    assert len(rows)
    return np.array([columns.mean() + 240, rows.mean()])


@pytest.mark.parametrize("metric", [False, True])
def test_from_above_north_is_up(metric: bool, index: MapIndex) -> None:
    pose = looking_north([1, 2, 0])
    picture = from_above(InMap(index, pose, {"a.jpg"}, index.xyz[:100], metric))
    assert picture.size == (WIDTH, MAP_HEIGHT)
    photo, seen = middle_of(picture, PHOTO_COLOR), middle_of(picture, INLIER_COLOR)
    # The photo is before the wall; what it sees is the western half of it.
    assert photo[1] > seen[1] + 100
    assert seen[0] < WIDTH / 2 < photo[0]
    blank = from_above(InMap(index, None, set(), np.zeros((0, 3)), metric))
    with pytest.raises(AssertionError):
        middle_of(blank, PHOTO_COLOR)


def test_photos_are_upright_and_lines_join_their_keypoints(index: MapIndex, tmp_path: Path) -> None:
    """The photo is stored turned, and the map's photo is drawn from a smaller version."""
    stored = np.zeros((60, 40, 3), np.uint8)
    stored[:, 30:] = 255  # the right, which is the top after a quarter counter-clockwise
    photo = Panel(stored, (40, 60), 1, np.array([[35.0, 10.0], [5, 29]]))
    other = Panel(np.zeros((20, 30, 3), np.uint8), (60, 40), 0, np.array([[29.5, 5.0], [5, 30]]))
    in_map = InMap(index, looking_north([0, 0, 0]), {"a.jpg"}, index.xyz[:50], False)
    path = draw(
        tmp_path / "new" / "a.png", ["caption"], photo, other, np.array([True, False]), in_map
    )
    with Image.open(path) as opened:
        pixels = np.asarray(opened).astype(int)
    top = pixels.shape[0] - MAP_HEIGHT - 424
    drawn = pixels[top : top + 424]
    # The quarter at the top of the photo is bright, and the rest is dark.
    assert drawn[60, 50].min() > 100
    assert drawn[200:400, 50].max() < 60
    # The keypoint is near the left of the top, 10 of 60 and 4 of 40 pixels away; its match is in
    # the middle of its photo's top.
    green = np.abs(drawn - INLIER_COLOR).max(axis=2) < 60
    rows, columns = np.nonzero(green)
    leftmost, rightmost = columns.argmin(), columns.argmax()
    assert columns[leftmost] == pytest.approx(637 * 10.5 / 60, abs=8)
    assert rows[leftmost] == pytest.approx(424 * 4.5 / 40, abs=8)
    assert columns[rightmost] == pytest.approx(643 + 637 / 2, abs=8)
    assert rows[rightmost] == pytest.approx(424 * 5.5 / 40, abs=8)
