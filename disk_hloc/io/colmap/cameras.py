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


def camera_rays(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    """Return where points of an image lie on the plane z = 1 of its camera, without distortion.

    Args:
        camera: the camera.
        points: (N, 2) pixels, COLMAP's: (0, 0) at the corner of the image.

    Returns:
        (N, 2) float64; NaN where the distortion cannot be undone.
    """
    return np.asarray(camera.cam_from_img(points), np.float64).reshape(-1, 2)
