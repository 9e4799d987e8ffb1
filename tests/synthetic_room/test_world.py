"""Cameras, poses and the parts of a scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.synthetic_room import Camera, Quad, Scene, box, look_at, project, quaternion, turned

GREY = np.full((2, 2, 3), 128, dtype=np.uint8)


def rotation_of(w, x, y, z):
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_gives_the_rotation_back(values):
    rotation = rotation_of(*np.array(values) / np.linalg.norm(values))
    q = quaternion(rotation)
    assert q[0] >= 0
    np.testing.assert_allclose(np.linalg.norm(q), 1)
    np.testing.assert_allclose(rotation_of(*q), rotation, atol=1e-9)


def test_look_at_is_upright_and_looks_there():
    camera = Camera.from_size(200, 100)
    pose = look_at((1, 2, 3), (4, -1, 2.5))
    np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(pose[:, :3]), 1)
    pixels, depth = project([(4, -1, 2.5), (4, -1, 2.9)], camera, pose)
    np.testing.assert_allclose(pixels[0], (100, 50), atol=1e-9)
    np.testing.assert_allclose(depth[0], np.linalg.norm([3, -3, -0.5]))
    assert pixels[1, 1] < 50
    np.testing.assert_allclose(pixels[1, 0], 100, atol=1e-9)


@pytest.mark.parametrize("target", [(0, 0, 0), (0, 0, 5)])
def test_look_at_refuses_an_undefined_direction(target):
    with pytest.raises(ValueError, match="look_at"):
        look_at((0, 0, 0), target)


def test_projection_agrees_with_the_calibration_matrix():
    camera = Camera(64, 48, 50.0, 60.0, 31.0, 25.0)
    pose = look_at((0, -3, 1), (0.2, 0, 0.5))
    point = np.array([0.4, 0.3, 0.8])
    homogeneous = camera.matrix @ (pose @ (*point, 1))
    pixels, depth = project(point[None], camera, pose)
    np.testing.assert_allclose(pixels[0], homogeneous[:2] / homogeneous[2])
    np.testing.assert_allclose(depth[0], homogeneous[2])


def test_faces_of_a_box_close_it_and_look_outwards():
    names = ("south", "east", "north", "west", "top", "bottom")
    turn = turned(0.7)
    quads = box("b", (1, 2, 3), (0.5, 1.0, 2.0), dict.fromkeys(names, GREY), turn)
    assert [quad.name for quad in quads] == [f"b/{name}" for name in names]
    for quad in quads:
        outward = quad.corners.mean(0) - (1, 2, 3)
        np.testing.assert_allclose(np.cross(quad.normal, outward), 0, atol=1e-12)
        assert quad.normal @ outward > 0
    np.testing.assert_allclose(sum(quad.area for quad in quads), 2 * (0.5 + 1 + 2))
    corners = np.concatenate([quad.corners for quad in quads])
    assert len(np.unique(np.round(corners, 9), axis=0)) == 8
    np.testing.assert_allclose(quads[0].normal, turn @ (0, -1, 0), atol=1e-12)
    np.testing.assert_allclose(quads[1].normal, turn @ (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(quads[4].normal, (0, 0, 1), atol=1e-12)


def test_labels_follow_the_order_of_first_appearance():
    quads = [
        Quad(f"q{i}", np.zeros(3), np.eye(3)[0], np.eye(3)[1], GREY, name)
        for i, name in enumerate(("chair", "lamp", "chair"))
    ]
    scene = Scene(tuple(quads))
    assert scene.object_names == ("chair", "lamp")
    assert scene.object_of_quad.tolist() == [0, 1, 0]
    assert scene.labels_of(["lamp"]) == [1]
    with pytest.raises(ValueError, match="sofa; the scene has: chair, lamp"):
        scene.labels_of(["lamp", "sofa"])


@pytest.mark.parametrize(
    ("origin", "v", "texture", "message"),
    [
        (np.zeros(2), np.eye(3)[1], GREY, "origin"),
        (np.full(3, np.nan), np.eye(3)[1], GREY, "origin"),
        (np.zeros(3), np.eye(3)[0], GREY, "parallel"),
        (np.zeros(3), np.eye(3)[1], GREY[:, :, 0], "texture"),
        (np.zeros(3), np.eye(3)[1], GREY.astype(float), "texture"),
    ],
)
def test_an_invalid_quad_is_refused(origin, v, texture, message):
    with pytest.raises(ValueError, match=message):
        Quad("bad", origin, np.eye(3)[0], v, texture, "bad")
