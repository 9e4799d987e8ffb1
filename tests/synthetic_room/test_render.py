"""Depth, labels and colours of the renderer, compared with closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from disk_hloc.synthetic_room import Camera, Quad, Scene, box, look_at, project, render
from disk_hloc.synthetic_room.mipmap import Mipmap
from disk_hloc.synthetic_room.render import NEAR_M

CAMERA = Camera(160, 120, 118.0, 121.0, 81.5, 58.25)
FORWARD = np.eye(3, 4)


def plain(colour, size=4):
    return np.full((size, size, 3), colour, dtype=np.uint8)


def smooth_texture(seed, size=256):
    noise = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)


def facing(name, left, top, width, height, depth, texture):
    """A rectangle parallel to the image plane of a camera at the origin that looks along z."""
    return Quad(
        name,
        np.array([left, top, depth]),
        np.array([width, 0.0, 0.0]),
        np.array([0.0, height, 0.0]),
        texture,
        name,
    )


@pytest.fixture
def corner():
    """Two walls and a floor that meet, and a rotated box: all pairs of views overlap."""
    walls = [
        Quad("a", np.array([0, 3, 2.0]), np.array([3, 0, 0.0]), np.array([0, 0, -2.0]),
             smooth_texture(1), "a"),
        Quad("b", np.array([0, 0, 2.0]), np.array([0, 3, 0.0]), np.array([0, 0, -2.0]),
             smooth_texture(2), "b"),
        Quad("c", np.array([0, 3, 0.0]), np.array([3, 0, 0.0]), np.array([0, -3, 0.0]),
             smooth_texture(3), "c"),
    ]  # fmt: skip
    faces = {
        face: smooth_texture(10 + i)
        for i, face in enumerate(("south", "east", "north", "west", "top"))
    }
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    return Scene((*walls, *box("box", (1.2, 1.7, 0.3), (0.5, 0.4, 0.6), faces, turn)))


def pixel_centres(camera):
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    return x, y


def back_project(depth, camera, cam_from_world):
    x, y = pixel_centres(camera)
    in_cam = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)])
    in_cam = (in_cam * depth).reshape(3, -1)
    rotation, translation = cam_from_world[:, :3], cam_from_world[:, 3]
    return (rotation.T @ (in_cam - translation[:, None])).T


def test_outline_of_a_facing_rectangle_is_exact_to_the_pixel():
    # Projects to x in [30.2, 109.8] and y in [20.6, 90.4]: centres 30.5..109.5 and 21.5..89.5.
    depth = 2.0
    left, right = ((np.array([30.2, 109.8]) - CAMERA.cx) / CAMERA.fx) * depth
    top, bottom = ((np.array([20.6, 90.4]) - CAMERA.cy) / CAMERA.fy) * depth
    scene = Scene((facing("q", left, top, right - left, bottom - top, depth, plain(90)),))
    seen = render(scene, CAMERA, FORWARD)
    expected = np.full((120, 160), -1)
    expected[21:90, 30:110] = 0
    np.testing.assert_array_equal(seen.labels, expected)
    np.testing.assert_array_equal(seen.depth, np.where(expected == 0, np.float32(depth), 0))
    assert seen.depth.dtype == np.float32
    assert seen.labels.dtype == np.int32
    assert (seen.image[seen.labels < 0][:10] == 0).all()
    assert seen.image[60, 60].tolist() == [90, 90, 90]


def test_labels_change_where_a_known_corner_projects(corner):
    pose = look_at((2.6, 0.4, 1.5), (1.0, 1.8, 0.4))
    seen = render(corner, CAMERA, pose)
    top = next(quad for quad in corner.quads if quad.name == "box/top")
    floor = corner.object_names.index("c")
    for along, pixel in zip(top.corners - top.corners.mean(0), project(top.corners, CAMERA, pose)[0]
                            , strict=True):  # fmt: skip
        inside, outside = project(
            [top.corners.mean(0) + 0.93 * along, top.corners.mean(0) + 1.07 * along], CAMERA, pose
        )[0]
        assert seen.labels[int(inside[1]), int(inside[0])] == corner.object_names.index("box")
        assert np.linalg.norm(outside - inside) < 12
        assert np.linalg.norm(pixel - (inside + outside) / 2) < 1
        if along[1] > 0.2:
            assert seen.labels[int(outside[1]), int(outside[0])] != corner.object_names.index("box")
    assert (seen.labels == floor).sum() > 500


@pytest.mark.parametrize("target", [(1.0, 1.8, 0.4), (0.5, 2.4, 1.0)])
def test_depth_of_one_view_agrees_with_another(corner, target):
    poses = [look_at((2.6, 0.4, 1.5), target), look_at((1.9, 0.5, 1.2), target)]
    one, two = (render(corner, CAMERA, pose) for pose in poses)
    hit = one.depth.ravel() > 0
    points = back_project(one.depth.astype(np.float64), CAMERA, poses[0])[hit]
    pixels, depth = project(points, CAMERA, poses[1])
    inside = (depth > 0) & (pixels >= 1).all(1) & (pixels < (159, 119)).all(1)
    pixels, depth = pixels[inside], depth[inside]
    found, planar = depth_at(two, pixels)
    labels = two.labels[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    # If the second view has something in front of the point, it is another, closer face.
    visible = planar & (found > 0.98 * depth)
    assert visible.sum() > 5000
    np.testing.assert_allclose(found[visible], depth[visible], rtol=1e-5)
    np.testing.assert_array_equal(labels[visible], one.labels.ravel()[hit][inside][visible])


def depth_at(seen, pixels):
    """Return the depth at pixels between centres, and whether the 3 x 3 centres are on a plane.

    On a plane the inverse depth is affine in the pixel, so it can be extrapolated from the centres.
    """
    column, row = np.floor(pixels).astype(int).T
    with np.errstate(divide="ignore"):
        inverse = 1 / seen.depth.astype(np.float64)
    inverse[~np.isfinite(inverse)] = 1e9
    window = np.stack([[inverse[row + dy, column + dx] for dx in (-1, 0, 1)] for dy in (-1, 0, 1)])
    gx, gy = (window[1, 2] - window[1, 0]) / 2, (window[2, 1] - window[0, 1]) / 2
    step = np.arange(-1, 2)
    fit = window[1, 1] + gx * step[None, :, None] + gy * step[:, None, None]
    planar = (np.abs(fit - window) < 2e-6 * window[1, 1]).all(axis=(0, 1))
    offset = pixels - 0.5 - np.stack([column, row], axis=1)
    return 1 / (window[1, 1] + gx * offset[:, 0] + gy * offset[:, 1]), planar


def test_colour_of_a_point_is_the_same_in_two_views(corner):
    camera = Camera.from_size(320, 240)
    poses = [look_at((2.6, 0.4, 1.5), (0.8, 2, 0.7)), look_at((2.0, 0.3, 1.3), (0.8, 2, 0.7))]
    views = [render(corner, camera, pose) for pose in poses]
    quad = corner.quads[0]
    ab = np.random.default_rng(0).uniform(0.05, 0.95, (400, 2))
    points = quad.origin + ab[:, :1] * quad.u + ab[:, 1:] * quad.v
    colours, visible = [], np.ones(len(points), dtype=bool)
    for view, pose in zip(views, poses, strict=True):
        pixels, depth = project(points, camera, pose)
        visible &= (pixels >= 1).all(1) & (pixels < (319, 239)).all(1)
        pixels[~visible] = 1
        column, row = np.floor(pixels).astype(int).T
        visible &= (view.labels[row, column] == 0) & (
            np.abs(view.depth[row, column] / depth - 1) < 0.03
        )
        colours.append(
            cv2.remap(
                view.image,
                (pixels[:, :1] - 0.5).astype(np.float32),
                (pixels[:, 1:] - 0.5).astype(np.float32),
                cv2.INTER_LINEAR,
            )[:, 0].astype(float)
        )
    expected = cv2.remap(
        quad.texture,
        (ab[:, :1] * 256 - 0.5).astype(np.float32),
        (ab[:, 1:] * 256 - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
    )[:, 0].astype(float)
    assert visible.sum() > 100
    assert np.abs(colours[0] - colours[1])[visible].mean() < 2
    assert np.abs(colours[0] - expected)[visible].mean() < 2


def test_nearest_rectangle_is_visible_in_any_order():
    far = facing("far", -2, -2, 4, 4, 3.0, plain(50))
    near = facing("near", -0.3, -0.3, 0.6, 0.6, 1.5, plain(200))
    for quads in ((far, near), (near, far)):
        scene = Scene(quads)
        seen = render(scene, CAMERA, FORWARD)
        row, column = int(CAMERA.cy), int(CAMERA.cx)
        assert scene.object_names[seen.labels[row, column]] == "near"
        assert seen.depth[row, column] == np.float32(1.5)
        assert seen.image[row, column].tolist() == [200, 200, 200]
        assert set(np.unique(seen.depth[seen.labels >= 0])) == {np.float32(1.5), np.float32(3)}


def test_no_crack_between_rectangles_that_share_an_edge():
    pose = look_at((0.31, -1.7, 0.77), (0.4, 1, 0.1))
    edges = np.array([-6.0, -1.1, -0.37, 0.13, 0.41, 0.9, 6.0])
    quads = [
        Quad("strip", np.array([x, 1, 6.0]), np.array([w, 0, 0.0]), np.array([0, 0, -12.0]),
             plain(255), f"strip{i}")
        for i, (x, w) in enumerate(zip(edges[:-1], np.diff(edges), strict=True))
    ]  # fmt: skip
    seen = render(Scene(tuple(quads)), CAMERA, pose)
    assert (seen.labels >= 0).all()
    assert (seen.image == 255).all()


def test_floor_that_reaches_behind_the_camera():
    floor = Quad("floor", np.array([-50, 1, -50.0]), np.array([100, 0, 0.0]),
                 np.array([0, 0, 100.0]), plain(99), "floor")  # fmt: skip
    seen = render(Scene((floor,)), CAMERA, FORWARD)
    _, y = pixel_centres(CAMERA)
    with np.errstate(divide="ignore"):
        expected = CAMERA.fy / (y - CAMERA.cy)
    hit = (y > CAMERA.cy) & (expected < 50)
    np.testing.assert_array_equal(seen.labels >= 0, hit)
    np.testing.assert_allclose(seen.depth[hit], expected[hit], rtol=1e-6)


def test_objects_behind_or_too_close_are_not_rendered():
    behind = facing("behind", -1, -1, 2, 2, -1.0, plain(255))
    touching = facing("touching", -1, -1, 2, 2, NEAR_M / 2, plain(255))
    seen = render(Scene((behind, touching)), CAMERA, FORWARD)
    assert (seen.labels == -1).all()
    assert not seen.image.any()


def test_surface_that_comes_close_is_cut_at_the_near_plane():
    # The plane x + y / 2 = NEAR_M / 2 along the optical axis: it is near where X + Y / 2 > 1 / 2.
    across = np.array([0.5, -1.0, 0.0])
    quad = Quad("q", np.array([NEAR_M / 2, 0, -1.0]) - 20 * across, 40 * across,
                np.array([0, 0, 50.0]), plain(9), "q")  # fmt: skip
    seen = render(Scene((quad,)), CAMERA, FORWARD)
    x, y = pixel_centres(CAMERA)
    reach = (x - CAMERA.cx) / CAMERA.fx + (y - CAMERA.cy) / CAMERA.fy / 2
    assert (reach > 0.501).sum() > 500
    assert (seen.labels[reach > 0.501] == -1).all()
    assert (seen.labels[(reach > 0.001) & (reach < 0.499)] == 0).all()


vectors = st.tuples(*[st.floats(-2, 2, allow_nan=False, width=32)] * 3).map(np.array)


@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors, vectors, vectors)
def test_depth_of_any_rectangle_is_where_ray_and_plane_meet(middle, u, v, eye, target):
    assume(np.linalg.norm(np.cross(u, v)) > 0.05)
    assume(np.linalg.norm(np.cross(target - eye, (0, 0, 1))) > 0.1)
    pose = look_at(eye, target)
    camera = Camera(40, 30, 31.0, 29.0, 20.75, 14.0)
    origin = middle - (u + v) / 2
    seen = render(Scene((Quad("q", origin, u, v, plain(7), "q"),)), camera, pose, supersampling=1)

    x, y = pixel_centres(camera)
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
    rays = rays @ pose[:, :3]
    normal = np.cross(u, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = ((origin - eye) @ normal) / (rays @ normal)
    points = eye + depth[..., None] * rays - origin
    gram = np.array([[u @ u, u @ v], [u @ v, v @ v]])
    ab = np.linalg.solve(gram, np.stack([points @ u, points @ v], -1)[..., None])[..., 0]
    rim = np.min(np.concatenate([ab, 1 - ab], -1), -1)
    clear = 1e-5
    inside = (rim > clear) & (depth > NEAR_M * 1.001)
    outside = (rim < -clear) | (depth < NEAR_M * 0.999) | ~np.isfinite(depth)
    assert (seen.labels[inside] == 0).all()
    assert (seen.labels[outside] == -1).all()
    np.testing.assert_allclose(seen.depth[inside], depth[inside], rtol=1e-5)
    assert (seen.depth[seen.labels < 0] == 0).all()


# Depths at which neighbouring samples would fall on checks of the same colour, or of both.
@pytest.mark.parametrize("depth", [1.85, 3.0, 3.69])
def test_fine_patterns_far_away_fade_to_grey_without_aliasing(depth):
    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    texture = np.repeat(checks[:, :, None], 3, axis=2)
    scene = Scene((facing("checks", -1, -1, 2, 2, depth, texture),))
    seen = render(scene, CAMERA, FORWARD)
    inside = cv2.erode((seen.labels == 0).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(seen.image[inside].astype(float) - 127.5).max() < 8


def test_outline_is_smooth_in_colour():
    scene = Scene((facing("q", -0.5, -0.5, 1.003, 1.003, 1.7, plain(200)),))
    seen = render(scene, CAMERA, FORWARD, supersampling=4)
    assert len(np.unique(seen.image)) > 2


def test_noise_follows_its_seed(corner):
    pose = look_at((2.6, 0.4, 1.5), (1.0, 1.8, 0.4))
    clean = render(corner, CAMERA, pose)
    one, same, other = (
        render(corner, CAMERA, pose, noise=4, seed=seed).image.astype(float) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(clean.image, render(corner, CAMERA, pose).image)
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5
    mid = (clean.image > 30) & (clean.image < 225)
    assert 3.5 < (one - clean.image)[mid].std() < 4.5


def test_mipmap_levels_keep_the_mean_and_the_rim():
    texture = smooth_texture(5, 97)
    texture[:, -1] = 255
    mipmap = Mipmap.from_texture(texture)
    half = np.array([0.5], np.float32)
    coarsest = mipmap.sample(half, half, np.array([99.0], np.float32))[0]
    np.testing.assert_allclose(coarsest, texture.mean((0, 1)), atol=6)
    edge = mipmap.sample(np.array([1.0], np.float32), half, np.array([-3.0], np.float32))[0]
    np.testing.assert_allclose(edge, [255, 255, 255], atol=1)


@pytest.mark.parametrize("pose", [np.eye(3), 2 * np.eye(3, 4)])
def test_an_invalid_pose_is_refused(pose):
    with pytest.raises(ValueError, match="cam_from_world"):
        render(Scene(()), CAMERA, pose)
