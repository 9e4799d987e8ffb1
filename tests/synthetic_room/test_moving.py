"""A board that moves from view to view, its masks, and scenes without it."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from disk_hloc.synthetic_room import (
    Camera,
    Quad,
    Scene,
    billboard,
    box,
    camera_path,
    look_at,
    project,
    render,
    write_scene,
)

SIZE = (160, 120)


def texture(seed):
    noise = np.random.default_rng(seed).uniform(0, 255, (3, 3, 3)).astype(np.uint8)
    return cv2.resize(noise, (96, 96), interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def scene():
    faces = ("south", "east", "north", "west", "top")
    block = box("block", (3, 4, 0.8), (1.6, 0.5, 1.6), {f: texture(i) for i, f in enumerate(faces)})
    floor = Quad(
        "floor",
        np.array([0.0, 5, 0]),
        np.array([6.0, 0, 0]),
        np.array([0.0, -5, 0]),
        texture(9),
        "floor",
    )
    return Scene((floor, *block))


@pytest.fixture
def poses():
    return camera_path(12)[[0, 4, 7, 11]]


def read_mask(folder, name):
    return cv2.imread(str(folder / "masks" / f"{name}.jpg.png"), cv2.IMREAD_UNCHANGED)


def photos(folder):
    return [p.read_bytes() for p in sorted((folder / "images").glob("*.jpg"))]


def panel(centre):
    """Return an upright board of 0.4 m x 0.4 m around `centre` that faces south."""
    corner = np.add(centre, (-0.2, 0, 0.2))
    u, v = np.array([0.4, 0, 0]), np.array([0, 0, -0.4])
    return Quad("panel", corner, u, v, texture(20), "panel")


def test_the_board_moves_in_the_world_from_view_to_view():
    boards = [np.stack([q.corners for q in billboard(i, p)]) for i, p in enumerate(camera_path())]
    for before, after in pairwise(boards):
        moved = np.linalg.norm(after[[0, 2]] - before[[0, 2]], axis=2)
        assert moved.mean() > 0.2


def test_the_board_stands_upright_in_the_room_and_nearly_still_in_the_picture():
    camera = Camera.from_size(*SIZE)
    folds = []
    for i, pose in enumerate(camera_path()):
        quads = billboard(i, pose)
        assert {q.object_name for q in quads} == {"billboard"}
        for quad in quads:
            assert quad.u[2] == 0
            np.testing.assert_array_equal(quad.v[:2], 0)
            # The picture is not mirrored: the front looks at the camera.
            eye = -pose[:, :3].T @ pose[:, 3]
            assert quad.normal @ (eye - quad.origin) > 0
        corners = np.concatenate([q.corners for q in quads])
        assert (corners >= -1e-12).all()
        assert (corners <= (6, 5, 3)).all()
        left, right = quads[0].corners, quads[2].corners
        np.testing.assert_allclose(left[[1, 2]], right[[0, 3]], atol=1e-12)
        # The posts reach from the board to the floor.
        for board, post in (quads[0:2], quads[2:4]):
            assert post.corners[:2, 2] == pytest.approx(board.corners[2:, 2])
            assert post.corners[2:, 2] == pytest.approx(0)
        pixels, depth = project([left[1:3].mean(axis=0)], camera, pose)
        assert (depth > 0.9).all()
        folds.append(pixels[0])
    np.testing.assert_allclose(folds, np.tile((80, 60), (12, 1)), atol=10)


def test_the_mask_is_where_the_labels_say(tmp_path, scene, poses):
    write_scene(
        tmp_path,
        scene=scene,
        size=SIZE,
        cam_from_world=poses,
        masks_of=["billboard"],
        moving=billboard,
        noise=0,
    )
    for i, pose in enumerate(poses):
        with_board = Scene((*scene.quads, *billboard(i, pose)))
        seen = render(with_board, Camera.from_size(*SIZE), pose)
        board = seen.labels == with_board.object_names.index("billboard")
        assert 0.3 < board.mean() < 0.55
        np.testing.assert_array_equal(read_mask(tmp_path, f"{i:04d}"), np.where(board, 0, 255))
        image = cv2.imread(str(tmp_path / "images" / f"{i:04d}.jpg"))[:, :, ::-1]
        assert np.abs(image.astype(float) - seen.image).mean() < 12


def test_photos_without_the_moving_object_are_unchanged(tmp_path, scene, poses):
    options = {"scene": scene, "size": SIZE, "cam_from_world": poses[:2], "noise": 2}
    plain = photos(write_scene(tmp_path / "plain", **options))
    assert photos(write_scene(tmp_path / "none", moving=None, **options)) == plain
    assert photos(write_scene(tmp_path / "empty", moving=lambda *_: [], **options)) == plain
    # Only in one view, and removed in the next.
    first = write_scene(
        tmp_path / "first", moving=lambda i, pose: billboard(i, pose) if i == 0 else [], **options
    )
    assert photos(first)[0] != plain[0]
    assert photos(first)[1] == plain[1]
    assert scene.object_names == ("floor", "block")


def test_out_of_sight_hidden_or_absent_the_mask_keeps_all(tmp_path, scene):
    pose = look_at((3, 1, 1.2), (3, 4, 0.8))
    places = [(3, 2.5, 1), (3, -3, 1), (3, 4.6, 0.6), None]

    def moving(view, cam_from_world):
        np.testing.assert_array_equal(cam_from_world, pose)
        place = places[view]
        return [] if place is None else [panel(place)]

    write_scene(
        tmp_path,
        scene=scene,
        size=SIZE,
        cam_from_world=np.stack([pose] * 4),
        masks_of=["panel"],
        moving=moving,
    )
    assert (read_mask(tmp_path, "0000") == 0).any()
    for name in ("0001", "0002", "0003"):
        mask = read_mask(tmp_path, name)
        assert mask.shape == SIZE[::-1]
        assert (mask == 255).all()


def test_masks_of_static_and_moving_objects(tmp_path, scene, poses):
    options = {"scene": scene, "size": SIZE, "cam_from_world": poses, "moving": billboard}
    write_scene(tmp_path, masks_of=["billboard", "floor", "block"], **options)
    for i, pose in enumerate(poses):
        seen = render(Scene((*scene.quads, *billboard(i, pose))), Camera.from_size(*SIZE), pose)
        np.testing.assert_array_equal(
            read_mask(tmp_path, f"{i:04d}"), np.where(seen.labels >= 0, 0, 255)
        )
    before = photos(tmp_path)
    with pytest.raises(ValueError, match=r"no such object: sofa; .* billboard"):
        write_scene(tmp_path, masks_of=["sofa"], **options)
    assert photos(tmp_path) == before
