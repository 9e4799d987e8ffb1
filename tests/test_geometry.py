"""Formulas against numbers worked out by hand, other libraries, and what they must not change."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.geometry import (
    Pose,
    align,
    angle_between,
    epipolar_distances,
    epipolar_errors,
    epipolar_lines,
    essential_matrix,
    line_lengths,
    relative_pose,
    rotation_angle,
)

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-3, 3).map(lambda exponent: 10**exponent)
MATRIX = np.array([[500, 0, 310], [0, 510, 250], [0, 0, 1.0]])


def random_quaternion(rng):
    q = rng.normal(size=4)
    return q / np.linalg.norm(q)


def random_rotation(rng):
    w, x, y, z = random_quaternion(rng)
    return pycolmap.Rotation3d(np.array([x, y, z, w])).matrix()


def about(axis, radians):
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(radians) * cross + 2 * np.sin(radians / 2) ** 2 * cross @ cross


# poses


@given(seed=seeds)
@settings(deadline=None)
def test_poses_against_pycolmap(seed):
    rng = np.random.default_rng(seed)
    poses = [Pose(random_quaternion(rng), rng.uniform(-5, 5, 3)) for _ in range(2)]
    theirs = []
    for pose in poses:
        w, x, y, z = pose.quaternion
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), pose.translation)
        np.testing.assert_allclose(pose.rotation, rigid.rotation.matrix(), atol=1e-12)
        np.testing.assert_allclose(pose.center, rigid.inverse().translation, atol=1e-12)
        theirs.append(rigid)
    rotation, translation = relative_pose(*poses)
    cam1_from_cam0 = theirs[1] * theirs[0].inverse()
    np.testing.assert_allclose(rotation, cam1_from_cam0.rotation.matrix(), atol=1e-12)
    np.testing.assert_allclose(translation, cam1_from_cam0.translation, atol=1e-12)


def test_the_relative_pose_takes_one_camera_to_the_other() -> None:
    pose0 = Pose(np.array([1.0, 0, 0, 0]), np.array([0.0, 0, 2]))
    half = np.radians(45)
    pose1 = Pose(np.array([np.cos(half), 0, 0, np.sin(half)]), np.array([1.0, 0, 0]))
    rotation, translation = relative_pose(pose0, pose1)
    point = np.array([0.3, -0.2, 5.0])
    in_first = pose0.rotation @ point + pose0.translation
    in_second = pose1.rotation @ point + pose1.translation
    np.testing.assert_allclose(rotation @ in_first + translation, in_second, atol=1e-12)


# epipolar geometry


def two_views(rng, count=30):
    """Points of space in two cameras with ``MATRIX``, in pixels, and cam1_from_cam0."""
    rotation, translation = about(rng.normal(size=3), rng.uniform(0, 0.3)), rng.normal(size=3)
    world = rng.uniform((-2, -2, 6), (2, 2, 9), (count, 3))
    seen = [points @ MATRIX.T for points in (world, world @ rotation.T + translation)]
    return *(points[:, :2] / points[:, 2:] for points in seen), rotation, translation


def fundamental_matrix(rotation, translation):
    inverse = np.linalg.inv(MATRIX)
    return inverse.T @ essential_matrix(rotation, translation) @ inverse


@given(seed=seeds)
@settings(deadline=None)
def test_the_essential_matrix_against_pycolmap(seed):
    rng = np.random.default_rng(seed)
    rotation, translation = random_rotation(rng), rng.normal(size=3)
    found = essential_matrix(rotation, translation)
    theirs = pycolmap.essential_matrix_from_pose(
        pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), translation)
    )
    np.testing.assert_allclose(found / np.linalg.norm(found), theirs / np.linalg.norm(theirs))


@given(seed=seeds, scale=scales)
@settings(deadline=None)
def test_distances_are_those_from_the_lines_one_by_one(seed, scale):
    """Also of any multiple of the matrix."""
    rng = np.random.default_rng(seed)
    points0, points1, rotation, translation = two_views(rng)
    matrix = fundamental_matrix(rotation, translation)
    assert np.max(epipolar_distances(points0, points1, matrix)) < 1e-6
    points1 = points1 + rng.normal(0, 3, points1.shape)
    expected0, expected1 = [], []
    for a, b in zip(points0, points1, strict=True):
        line1, line0 = matrix @ [*a, 1], matrix.T @ [*b, 1]
        expected0.append(abs(line0 @ [*a, 1]) / np.hypot(*line0[:2]))
        expected1.append(abs(line1 @ [*b, 1]) / np.hypot(*line1[:2]))
    found0, found1 = epipolar_distances(points0, points1, scale * matrix)
    np.testing.assert_allclose(found0, expected0, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found1, expected1, rtol=1e-6, atol=1e-6)


@given(seed=seeds)
@settings(deadline=None)
def test_the_photos_may_be_swapped(seed):
    rng = np.random.default_rng(seed)
    points0, points1, rotation, translation = two_views(rng)
    matrix = fundamental_matrix(rotation, translation)
    lines0, lines1 = epipolar_lines(points0, points1[:7], matrix)
    swapped1, swapped0 = epipolar_lines(points1[:7], points0, matrix.T)
    np.testing.assert_allclose(lines0, swapped0)
    np.testing.assert_allclose(lines1, swapped1)
    assert (len(lines0), len(lines1)) == (7, len(points0))
    np.testing.assert_allclose(line_lengths(lines1, matrix), np.hypot(*lines1[:, :2].T))


@given(seed=seeds)
@settings(deadline=None)
def test_errors_of_rays_on_a_plane_are_those_from_lines(seed):
    rng = np.random.default_rng(seed)
    rotation, translation = random_rotation(rng), rng.normal(size=3)
    matrix = essential_matrix(rotation, translation)
    points = rng.normal(size=(2, 20, 2))
    rays = [np.column_stack([side, np.ones(20)]) for side in points]
    pixel = np.eye(3, 2)[None] / 700
    found = epipolar_errors(rays[0], pixel, rays[1], pixel, matrix)
    expected = epipolar_distances(*points, matrix)
    np.testing.assert_allclose(found, 700 * np.array(expected), rtol=1e-9, atol=1e-9)


def test_rays_that_point_backwards_have_no_error_where_they_meet():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3)) * 3
    rotation, translation = about((0, 1, 0), 2.0), np.array([0.3, 0.1, -0.2])
    rays = [points, points @ rotation.T + translation]
    rays = [ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays]
    across = np.stack([np.linalg.svd(ray[None])[2][1:].T for ray in rays[1]]) / 100
    same = np.stack([np.linalg.svd(ray[None])[2][1:].T for ray in rays[0]]) / 100
    matrix = essential_matrix(rotation, translation)
    found = epipolar_errors(rays[0], same, rays[1], across, matrix)
    assert np.max(found) < 1e-9
    # Moved by a hundredth of a radian off their planes, they are one pixel away.
    normals = rays[0] @ matrix.T
    off = rays[1] + 0.01 * normals / np.linalg.norm(normals, axis=1, keepdims=True)
    _, errors = epipolar_errors(rays[0], same, off, across, matrix)
    np.testing.assert_allclose(errors, 1, atol=1e-3)


def test_every_point_lies_on_the_line_of_an_epipole():
    forward = essential_matrix(np.eye(3), np.array([0, 0, 1.0]))
    middle, beside = np.zeros((1, 2)), np.array([[0.3, -0.1]])
    np.testing.assert_array_equal(epipolar_distances(middle, middle, forward), [[0], [0]])
    np.testing.assert_array_equal(epipolar_distances(middle, beside, forward), [[0], [0]])


def test_cameras_at_one_place_have_no_epipolar_lines():
    points = np.array([[0.3, -0.1], [0.2, 0.5]])
    still = essential_matrix(about((0, 1, 0), 0.1), np.zeros(3))
    assert np.isnan(epipolar_distances(points, points, still)).all()


def test_without_matches_there_are_no_distances_and_nan_stays():
    matrix = essential_matrix(np.eye(3), np.array([1.0, 0, 0]))
    none = np.zeros((0, 2))
    assert [len(one) for one in epipolar_distances(none, none, matrix)] == [0, 0]
    points = np.array([[0.1, 0.2], [np.nan, np.nan]])
    found = np.array(epipolar_distances(points, points, matrix))
    assert np.isnan(found).tolist() == [[False, True]] * 2


# angles


@pytest.mark.parametrize(
    "radians", [0, 1e-12, 1e-9, 1e-6, 1e-3, 1, np.pi / 2, 3, np.pi - 1e-6, np.pi - 1e-9, np.pi]
)
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0, 1), (1, -2, 3)])
def test_angle_is_exact(radians, axis):
    found = rotation_angle(about(axis, radians))
    # Of a tiny angle 6 digits, of one near 180 degrees the distance from it.
    assert found == pytest.approx(np.degrees(radians), rel=1e-6, abs=1e-15)
    assert 180 - found == pytest.approx(180 - np.degrees(radians), rel=1e-6, abs=3e-13)


@given(seed=seeds, radians=st.floats(0, np.pi))
@settings(deadline=None)
def test_angle_does_not_depend_on_axis_or_direction(seed, radians):
    rotation = about(np.random.default_rng(seed).normal(size=3), radians)
    assert np.radians(rotation_angle(rotation)) == pytest.approx(radians, abs=1e-9)
    assert rotation_angle(rotation.T) == pytest.approx(rotation_angle(rotation), abs=1e-9)


@given(seed=seeds, radians=st.floats(0, np.pi), scale=scales)
@settings(deadline=None)
def test_the_angle_of_directions_is_that_of_the_turn(seed, radians, scale):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    direction = np.cross(axis, rng.normal(size=3))
    turned = scale * about(axis, radians) @ direction
    assert np.radians(angle_between(direction, turned)) == pytest.approx(radians, abs=1e-9)


def test_angles_of_many_directions_and_of_tiny_ones():
    x = np.array([1.0, 0, 0])
    many = np.array([[2, 0, 0], [0, 3, 0], [-1, 0, 0], [1, 1, 0]])
    np.testing.assert_allclose(angle_between(many, x), [0, 90, 180, 45])
    tiny = np.array([1, 1e-9, 0])
    assert angle_between(x, tiny) == pytest.approx(np.degrees(1e-9), rel=1e-6)


# align


@given(seed=seeds, scale=scales, flat=st.booleans())
@settings(deadline=None)
def test_align_recovers_a_similarity(seed, scale, flat):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(rng.integers(4, 20), 3))
    if flat:
        source[:, 2] = 0
    rotation, translation = random_rotation(rng), rng.uniform(-10, 10, 3)
    target = scale * source @ rotation.T + translation
    found = align(source, target)
    assert found[0] == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(found[1], rotation, atol=1e-7)
    np.testing.assert_allclose(found[2], translation, atol=1e-7 * (1 + scale))


@given(seed=seeds, mirrored=st.booleans())
@settings(deadline=None)
def test_align_is_the_least_squares_rotation_never_a_reflection(seed, mirrored):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(8, 3))
    mirror = np.diag([1, 1, -1 if mirrored else 1])
    target = 2 * source @ mirror @ random_rotation(rng).T + 0.05 * rng.normal(size=(8, 3))
    scale, rotation, translation = align(source, target)

    def cost(scale, rotation, translation):
        return ((scale * source @ rotation.T + translation - target) ** 2).sum()

    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    best = cost(scale, rotation, translation)
    assert not mirrored or best > 0.1
    for _ in range(10):
        turned = about(rng.normal(size=3), 10 ** rng.uniform(-4, 0.5)) @ rotation
        assert cost(scale, turned, translation) >= best
        assert cost(scale * 10 ** rng.uniform(-1, 1), rotation, translation) >= best
        assert cost(scale, rotation, translation + 0.01 * rng.normal(size=3)) >= best
