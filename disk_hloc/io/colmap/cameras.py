"""COLMAP's cameras: models, parameters, and which images share a camera."""

from __future__ import annotations

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError

CAMERA_MODES = {
    "auto": pycolmap.CameraMode.AUTO,
    "single": pycolmap.CameraMode.SINGLE,
    "per-folder": pycolmap.CameraMode.PER_FOLDER,
    "per-image": pycolmap.CameraMode.PER_IMAGE,
}


_HAS_RAYS = hasattr(pycolmap.Camera, "cam_ray_from_img")
# Over which derivatives are taken.
_STEP_PX = 0.01


def camera_mode(name: str) -> pycolmap.CameraMode:
    """Return COLMAP's mode of sharing cameras among images.

    Raises:
        DiskHlocError: there is no mode of this name.
    """
    if name not in CAMERA_MODES:
        raise DiskHlocError(f"no camera mode is called {name!r}; known: {', '.join(CAMERA_MODES)}")
    return CAMERA_MODES[name]


def image_reader_options(camera: str | None) -> dict[str, str]:
    """Return the options of ``pycolmap.import_images`` for a camera.

    Args:
        camera: COLMAP's model and its parameters in pixels, ``"PINHOLE fx,fy,cx,cy"``, or the
            model alone; None lets COLMAP choose by EXIF data.

    Raises:
        DiskHlocError: the model is unknown, or the number of parameters is wrong.
    """
    if camera is None:
        return {}
    model, *rest = camera.split(maxsplit=1) or [""]
    known = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]
    if model not in known:
        raise DiskHlocError(f"no camera model is called {model!r}; known: {', '.join(known)}")
    if not rest:
        return {"camera_model": model}
    try:
        values = [float(value) for value in rest[0].replace(",", " ").split()]
    except ValueError as error:
        raise DiskHlocError(
            f"the camera {camera!r} has a parameter that is not a number"
        ) from error
    checked = pycolmap.Camera(model=model, width=2, height=2, params=values)
    if not checked.verify_params():
        raise DiskHlocError(
            f"{model} has the parameters {checked.params_info}, but {camera!r} gives {len(values)}"
        )
    focal_first = checked.params_info.startswith("f")
    if not np.isfinite(values).all() or (focal_first and values[0] <= 0):
        raise DiskHlocError(f"the camera {camera!r} has an impossible parameter")
    return {"camera_model": model, "camera_params": ",".join(str(value) for value in values)}


def camera_object(camera: str, width: int, height: int) -> pycolmap.Camera:
    """Return the camera with the parameters of ``"PINHOLE fx,fy,cx,cy"`` and a size in pixels.

    Raises:
        DiskHlocError: see :func:`image_reader_options`; or the parameters are missing.
    """
    options = image_reader_options(camera)
    if "camera_params" not in options:
        raise DiskHlocError(f"the camera {camera!r} has no parameters")
    return pycolmap.Camera(
        model=options["camera_model"],
        width=width,
        height=height,
        params=[float(value) for value in options["camera_params"].split(",")],
    )


def require_camera(camera: str) -> None:
    """Check that a text is a camera with its parameters, of photos of any size.

    Raises:
        DiskHlocError: see :func:`camera_object`.
    """
    camera_object(camera, 1, 1)


def is_planar(camera: pycolmap.Camera) -> bool:
    """Return whether a camera maps a plane before it, as all but fisheyes and panoramas do."""
    # Before COLMAP 4 all models had a plane.
    return bool(camera.is_perspective_pinhole()) if _HAS_RAYS else True


def bearings(camera: pycolmap.Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rays of points of an image, and how they change from pixel to pixel.

    The rays of a planar camera (:func:`is_planar`) are points of the plane z = 1, and change by the
    inverse of the mean focal length, as in COLMAP. Those of fisheyes and panoramas have unit
    length and may point backwards.

    Args:
        camera: the camera.
        points: (N, 2) pixels, COLMAP's: (0, 0) at the corner of the image.

    Returns:
        (N, 3) float64 rays, x right, y down, z forward; NaN where COLMAP cannot undo the distortion
        or, for fisheyes, beyond 90 degrees from the axis, where its models end. And (N, 3, 2)
        float64 derivatives by x and y, or (1, 3, 2) if they are the same for all.
    """
    if is_planar(camera):
        plane = camera_rays(camera, points)
        jacobian = np.eye(3, 2)[None] * camera.cam_from_img_threshold(1.0)
        return np.column_stack([plane, np.ones(len(plane))]), jacobian
    points = np.asarray(points, np.float64).reshape(-1, 2)
    rays = camera.cam_ray_from_img(points)
    steps = np.array([[_STEP_PX, 0], [0, _STEP_PX]])
    columns = [
        (camera.cam_ray_from_img(points + step) - camera.cam_ray_from_img(points - step))
        / (2 * _STEP_PX)
        for step in steps
    ]
    if not camera.is_spherical():
        # COLMAP returns a ray of less than 90 degrees there.
        back = np.asarray(camera.img_from_cam(rays), np.float64).reshape(-1, 2)
        rays = np.where((np.abs(back - points).max(axis=1) < 1)[:, None], rays, np.nan)
    return rays, np.stack(columns, axis=-1)


def camera_rays(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    """Return where points of an image lie on the plane z = 1 of its camera, without distortion.

    Args:
        camera: the camera.
        points: (N, 2) pixels, COLMAP's: (0, 0) at the corner of the image.

    Returns:
        (N, 2) float64; NaN where the distortion cannot be undone.
    """
    return np.asarray(camera.cam_from_img(points), np.float64).reshape(-1, 2)
