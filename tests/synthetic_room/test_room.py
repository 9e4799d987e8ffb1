"""The room, its light, and the path through it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.synthetic_room import (
    Camera,
    Quad,
    Scene,
    camera_path,
    lit,
    make_room,
    materials,
    project,
    render,
)
from disk_hloc.synthetic_room.photos import photo
from disk_hloc.synthetic_room.room import ROOM_M

WHITE = np.full((64, 64, 3), 200, dtype=np.uint8)


@pytest.fixture(scope="module")
def room():
    pytest.importorskip("skimage")
    return make_room()


def test_photographs_need_scikit_image(monkeypatch):
    photo.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DiskHlocError, match=r'pip install "disk_hloc\[demo\]"') as raised:
        photo("chelsea.png")
    assert "\n" not in str(raised.value)


def test_a_missing_photograph_is_named():
    pytest.importorskip("skimage")
    with pytest.raises(DiskHlocError, match=r"nothing\.png"):
        photo("nothing.png")


def test_every_photo_shows_the_room_and_nothing_else(room):
    camera = Camera.from_size(160, 120)
    for pose in camera_path(5):
        seen = render(room, camera, pose, supersampling=1)
        assert (seen.labels >= 0).all()
        assert seen.depth.min() > 0.8
        assert len(np.unique(seen.labels)) > 12
        # The picture has light, shadows and structure everywhere.
        assert 60 < seen.image.mean() < 170
        tiles = seen.image.mean(2).reshape(6, 20, 8, 20).std(axis=(1, 3))
        assert np.median(tiles) > 8


def test_nothing_lies_outside_the_room_or_in_the_same_plane(room):
    corners = np.concatenate([quad.corners for quad in room.quads])
    assert (corners > -1e-9).all()
    assert (corners < np.array(ROOM_M) + 1e-9).all()
    # Two overlapping quads in the same plane would compete for pixels.
    for i, one in enumerate(room.quads):
        for other in room.quads[:i]:
            if abs(one.normal @ other.normal) < 1 - 1e-9:
                continue
            if abs((other.origin - one.origin) @ one.normal) > 1e-6:
                continue
            local = np.linalg.inv(np.column_stack([one.u, one.v, one.normal]))
            ab = (local @ (other.corners - one.origin).T).T[:, :2]
            apart = (ab.max(0) <= 1e-6) | (ab.min(0) >= 1 - 1e-6)
            assert apart.any(), f"{one.name} and {other.name} coincide"


def test_neighbours_on_the_path_see_mostly_the_same(room):
    camera = Camera.from_size(80, 60)
    poses = camera_path(12)
    centres = np.stack([-pose[:, :3].T @ pose[:, 3] for pose in poses])
    assert (centres > 0.4).all()
    assert (centres < np.array(ROOM_M) - 0.4).all()
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert (steps > 0.2).all()
    assert (steps < 0.7).all()
    views = [render(room, camera, pose, supersampling=1) for pose in poses]
    x, y = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
    shared = np.zeros((12, 12))
    for i, (view, pose) in enumerate(zip(views, poses, strict=True)):
        points = ((rays * view.depth[..., None]).reshape(-1, 3) - pose[:, 3]) @ pose[:, :3]
        for j, (other, other_pose) in enumerate(zip(views, poses, strict=True)):
            pixels, depth = project(points, camera, other_pose)
            inside = (depth > 0) & (pixels > 0).all(1) & (pixels < (80, 60)).all(1)
            column, row = np.floor(pixels[inside]).astype(int).T
            seen = np.abs(other.depth[row, column] / depth[inside] - 1) < 0.05
            shared[i, j] = seen.sum() / len(points)
    assert np.diag(shared).min() == pytest.approx(1)
    assert np.diag(shared, 1).min() > 0.6
    # Each photo overlaps well with several others, not only with its neighbours.
    assert ((shared > 0.4).sum(axis=1) - 1).min() >= 4


def test_path_with_one_view_and_with_none():
    assert camera_path(1).shape == (1, 3, 4)
    with pytest.raises(ValueError, match="num_views"):
        camera_path(0)


def test_the_seed_changes_textures_and_not_positions(monkeypatch):
    pytest.importorskip("skimage")
    # Coarse textures without shadows take a tenth of the time.
    monkeypatch.setattr(materials, "TEXELS_PER_M", 60)
    monkeypatch.setattr("disk_hloc.synthetic_room.room.lit", lambda scene, lamps, seed: scene)
    room, again, other = make_room(0), make_room(0), make_room(1)
    for one, same in zip(room.quads, again.quads, strict=True):
        np.testing.assert_array_equal(one.texture, same.texture)
    differing = [
        not np.array_equal(one.texture, two.texture)
        for one, two in zip(room.quads, other.quads, strict=True)
    ]
    assert np.mean(differing) > 0.9
    assert room.object_names == other.object_names


def test_a_table_throws_a_shadow_and_a_floor_darkens_away_from_the_lamp():
    floor = Quad("floor", np.array([0, 4, 0.0]), np.array([4, 0, 0.0]), np.array([0, -4, 0.0]),
                 WHITE, "floor")  # fmt: skip
    top = Quad("top", np.array([1.6, 2.4, 0.6]), np.array([0.8, 0, 0.0]), np.array([0, -0.8, 0.0]),
               WHITE, "top")  # fmt: skip
    bare = lit(Scene((floor,)), [(2, 2, 2.5)]).quads[0].texture[:, :, 0].astype(int)
    shaded = lit(Scene((floor, top)), [(2, 2, 2.5)]).quads[0].texture[:, :, 0].astype(int)
    again = lit(Scene((floor, top)), [(2, 2, 2.5)]).quads[0].texture[:, :, 0]
    np.testing.assert_array_equal(again, shaded)
    assert bare[32, 32] > bare[2, 2] + 10
    assert shaded[32, 32] < 0.7 * bare[32, 32]
    assert abs(shaded[2, 2] - bare[2, 2]) < 15


def test_light_fades_with_distance():
    tiles = [
        Quad(f"at {x}", np.array([x, 0, z]), np.array([0.02, 0, 0]), np.array([0, -0.02, 0]),
             WHITE // 2, "tile")
        for x, z in ((-0.5, 2.0), (0.5, 0.5))
    ]  # fmt: skip
    lamps = [(-0.5, 0, 2.5), (0.5, 0, 2.5)]
    near, far = (q.texture.mean() for q in lit(Scene(tuple(tiles)), lamps, ambient=0).quads)
    assert near > 1.15 * far
