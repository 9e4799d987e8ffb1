"""Cameras by name and parameters, and the rays of their pixels."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import (
    CAMERA_MODES,
    bearings,
    camera_mode,
    camera_rays,
    image_reader_options,
)
from support.errors import one_line_error


def test_no_camera_leaves_all_to_colmap():
    assert image_reader_options(None) == {}


@pytest.mark.parametrize("text", ["SIMPLE_RADIAL", " OPENCV "])
def test_model_alone(text):
    assert image_reader_options(text) == {"camera_model": text.strip()}


@pytest.mark.parametrize(
    "text",
    ["PINHOLE 500,501.5,256,192", "PINHOLE 500 501.5 256 192", "PINHOLE  500, 501.5,256,192 "],
)
def test_model_with_parameters(text):
    options = image_reader_options(text)
    assert options["camera_model"] == "PINHOLE"
    assert [float(value) for value in options["camera_params"].split(",")] == [500, 501.5, 256, 192]


@pytest.mark.parametrize("text", ["FISH 1,2,3", "pinhole 1,2,3,4", "", "INVALID", "1,2,3,4"])
def test_unknown_model(text):
    with pytest.raises(DiskHlocError) as error:
        image_reader_options(text)
    assert one_line_error(error, "no camera model is called", "PINHOLE, SIMPLE_RADIAL")


@pytest.mark.parametrize("text", ["PINHOLE 500", "PINHOLE 1,2,3", "PINHOLE 1,2,3,4,5"])
def test_wrong_number_of_parameters(text):
    with pytest.raises(DiskHlocError) as error:
        image_reader_options(text)
    assert one_line_error(error, "fx, fy, cx, cy", repr(text), f"gives {text.count(',') + 1}")


@pytest.mark.parametrize(
    "text", ["PINHOLE a,b,c,d", "PINHOLE 500,500,256,192px", "PINHOLE 1;2;3;4"]
)
def test_parameter_that_is_no_number(text):
    with pytest.raises(DiskHlocError) as error:
        image_reader_options(text)
    assert one_line_error(error, repr(text), "not a number")


def test_unknown_camera_mode():
    assert camera_mode("per-image") == pycolmap.CameraMode.PER_IMAGE
    with pytest.raises(DiskHlocError) as error:
        camera_mode("shared")
    assert one_line_error(error, "'shared'", *CAMERA_MODES)


@pytest.mark.parametrize(
    "camera", ["PINHOLE nan,1,1,1", "SIMPLE_RADIAL 0,1,1,0", "PINHOLE -5,5,1,1"]
)
def test_impossible_cameras_are_errors(camera):
    with pytest.raises(DiskHlocError, match="impossible"):
        image_reader_options(camera)


def test_any_white_space_parts_model_and_parameters():
    assert image_reader_options("PINHOLE\t1, 2, 3 4")["camera_params"] == "1.0,2.0,3.0,4.0"


@pytest.mark.parametrize(
    ("model", "params"),
    [("PINHOLE", [500, 510, 310, 250]), ("OPENCV", [500, 510, 310, 250, 0.1, -0.05, 1e-3, 0])],
)
def test_rays_are_seen_at_their_pixels(model, params):
    camera = pycolmap.Camera(model=model, width=640, height=480, params=params)
    pixels = np.random.default_rng(0).uniform((0, 0), (640, 480), (50, 2))
    rays = camera_rays(camera, pixels)
    assert (rays.shape, rays.dtype) == ((50, 2), np.float64)
    in_space = np.column_stack([rays, np.ones(50)])
    np.testing.assert_allclose(camera.img_from_cam(in_space), pixels, atol=1e-6)
    assert camera_rays(camera, np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.skipif(not hasattr(pycolmap.Camera, "cam_ray_from_img"), reason="needs pycolmap 4.2")
@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("OPENCV", [500, 510, 310, 250, 0.1, -0.05, 1e-3, 0]),
        ("EQUIRECTANGULAR", [640, 480]),
        ("OPENCV_FISHEYE", [150, 150, 320, 240, 0.01, 0, 0, 0]),
    ],
)
def test_bearings_point_anywhere_and_change_from_pixel_to_pixel(model, params):
    camera = pycolmap.Camera(model=model, width=640, height=480, params=params)
    pixels = np.random.default_rng(0).uniform((1, 1), (639, 479), (200, 2))
    rays, changes = bearings(camera, pixels)
    assert (rays.shape, changes.shape[1:]) == ((200, 3), (3, 2))
    seen = np.isfinite(rays).all(axis=1)
    angles = np.linalg.norm((pixels - (320, 240)) / 150, axis=1)
    assert seen.all() if model != "OPENCV_FISHEYE" else not seen[angles > 1.7].any()
    assert seen[angles < 1.4].all()
    assert (rays[seen, 2] < 0).any() == (model == "EQUIRECTANGULAR")
    np.testing.assert_allclose(camera.img_from_cam(rays[seen]), pixels[seen], atol=1e-5)
    if model == "OPENCV":
        assert len(changes) == 1
        return
    step = np.array([0.05, -0.02])
    moved, _ = bearings(camera, pixels + step)
    expected = rays + changes @ step
    near = seen & np.isfinite(moved).all(axis=1)
    np.testing.assert_allclose(moved[near], expected[near], atol=1e-5)
