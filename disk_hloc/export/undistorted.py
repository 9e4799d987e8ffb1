"""Photos and cameras without distortion, in the folder that COLMAP's dense stereo works in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated

from .source import Source

NAME = "undistorted"


def write(source: Source, folder: Path) -> None:
    """Write ``images/``, ``sparse/``, ``stereo/`` and, if there are masks, ``masks/``.

    A mask is called as its photo, with ``.png`` added, black where nothing is to be seen: as
    ``colmap stereo_fusion --StereoFusion.mask_path`` takes it.

    Raises:
        DiskHlocError: a photo or mask is missing or has another size.
    """
    photos = source.photos(NAME)
    names = [image.name for image in source.images()]
    with colmap.readable_photos(photos, names, folder) as readable:
        isolated.call(
            _undistort, source.model_dir, readable, folder,
            task=f"undistorting the photos of {photos}", log_dir=folder,
        )  # fmt: skip
    for log in folder.glob("colmap.LOG.*"):
        log.unlink()
    write_masks(source, folder / "sparse", folder / "masks")


def _undistort(model_dir: Path, photos: Path, folder: Path) -> None:
    pycolmap.undistort_images(folder, model_dir, photos)


def write_masks(source: Source, undistorted_dir: Path, folder: Path) -> None:
    """Write the masks of undistorted photos, those that hide anything.

    Args:
        source: the model with distortion, and the masks.
        undistorted_dir: the model without distortion.
        folder: gets ``NAME.png``.
    """
    if source.masks is None:
        return
    cameras = colmap.cameras_of(colmap.read_model(undistorted_dir))
    for image in source.images():
        camera = source.model.cameras[image.camera_id]
        keep = source.masks(image.name, (camera.width, camera.height))
        if keep.all():
            continue
        path = folder / f"{image.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        seen = undistorted_mask(keep, camera, cameras[image.name])
        cv2.imencode(".png", seen.astype(np.uint8) * 255)[1].tofile(path)


def undistorted_mask(
    keep: NDArray[np.bool_], distorted: pycolmap.Camera, undistorted: pycolmap.Camera
) -> NDArray[np.bool_]:
    """Warp a mask as its photo is.

    Args:
        keep: (H, W) bool of the photo as it is stored.
        distorted: its camera.
        undistorted: the camera without distortion.

    Returns:
        (H', W') bool; False where the photo does not reach.
    """
    y, x = np.mgrid[: undistorted.height, : undistorted.width]
    pixels = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
    rays = np.column_stack([colmap.camera_rays(undistorted, pixels), np.ones(len(pixels))])
    seen = np.asarray(distorted.img_from_cam(rays), np.float64).reshape(-1, 2)
    # The centre of the first pixel is at 0.5.
    at = np.floor(np.nan_to_num(seen, nan=-1.0)).astype(np.int64)
    height, width = keep.shape
    inside = (at >= 0).all(axis=1) & (at[:, 0] < width) & (at[:, 1] < height)
    warped = np.zeros(len(at), bool)
    warped[inside] = keep[at[inside, 1], at[inside, 0]]
    return warped.reshape(undistorted.height, undistorted.width)
