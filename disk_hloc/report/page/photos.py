"""The photos of a report: small versions, keypoints and a row of the table each."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from PIL import Image

from disk_hloc.io import colmap
from disk_hloc.io.images import ImageReadError, read_image, resize_image
from disk_hloc.io.masks import Masks

# Bytes of all pictures together, and the longer side of one.
_BUDGET = 5_000_000
_BYTES_PER_PIXEL = 0.22
_SIDES = (160, 640)
# Of a photo's keypoints, those with the longest tracks: at most this many, and of all photos.
_MAX_KEYPOINTS = 1200
_ALL_KEYPOINTS = 80_000
_MIN_KEYPOINTS = 100
_TINT = np.array([230, 60, 60], np.float32)
# The largest error that a byte holds, in pixels.
ERROR_SCALE = 4.0 / 255


def picture_side(num_photos: int) -> int:
    """Return the longer side of a picture in pixels, so that all of them fit in a page."""
    side = (_BUDGET / max(num_photos, 1) / _BYTES_PER_PIXEL / 0.75) ** 0.5
    return int(min(max(side, _SIDES[0]), _SIDES[1]))


def picture(path: Path, side: int, masks: Masks | None, name: str) -> dict[str, Any] | None:
    """Return a small version of a photo as a data URL, its masked part tinted, and both sizes.

    None if the photo cannot be read.
    """
    try:
        photo = read_image(path)
    except ImageReadError:
        return None
    height, width = photo.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = resize_image(photo, size, "cv2_area") if scale < 1 else photo
    if masks is not None:
        keep = masks(name, (width, height))
        if not keep.all():
            hidden = ~(resize_image(keep.astype(np.uint8) * 255, size, "cv2_area") > 127)
            small = small.astype(np.float32)
            small[hidden] = 0.5 * small[hidden] + 0.5 * _TINT
            small = small.astype(np.uint8)
    url = to_url(Image.fromarray(np.ascontiguousarray(small)), quality=72)
    return {"url": url, "width": width, "height": height}


def to_url(picture: Image.Image, quality: int) -> str:
    """Return a picture as a data URL of a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def keypoints_shown(num_photos: int) -> int:
    """Return how many keypoints of a photo are shown, so that those of all fit in a page."""
    return min(max(_ALL_KEYPOINTS // max(num_photos, 1), _MIN_KEYPOINTS), _MAX_KEYPOINTS)


def keypoints(
    model: pycolmap.Reconstruction, image: pycolmap.Image, at_most: int
) -> dict[str, str]:
    """Return the keypoints of a photo that see a point, those with the longest tracks.

    Returns:
        ``xy``: float32 x and y in pixels of the photo, ``tracks``: uint8 lengths, ``errors``: uint8
        reprojection errors in :data:`ERROR_SCALE` pixels; base64 of their bytes, little-endian.
    """
    seen = [point for point in image.points2D if point.has_point3D()]
    points = [model.points3D[point.point3D_id] for point in seen]
    lengths = np.array([point.track.length() for point in points], np.int64)
    chosen = np.argsort(-lengths, kind="stable")[:at_most]
    xy = np.array([point.xy for point in seen], "<f4").reshape(-1, 2)[chosen]
    errors = np.array([point.error for point in points])[chosen]
    return {
        "xy": to_base64(xy),
        "tracks": to_base64(np.minimum(lengths[chosen], 255).astype(np.uint8)),
        "errors": to_base64(np.clip(np.nan_to_num(errors) / ERROR_SCALE, 0, 255).astype(np.uint8)),
    }


def to_base64(array: np.ndarray) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def rows(
    names: Sequence[str],
    models: Sequence[pycolmap.Reconstruction],
    figures: Mapping[str, Mapping[str, int]],
    missing: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the table of photos.

    Args:
        names: all photos, sorted.
        models: the largest first; the figures of a photo are those of the first that it is in.
        figures: ``keypoints``, ``matched`` and ``verified`` (pairs) -> name -> number.
        missing: photo -> why it is not in the largest model.
    """
    model_of = colmap.model_of_photos(models)
    by_name = [{image.name: image for image in colmap.registered_images(model)} for model in models]
    found = []
    for name in names:
        row: dict[str, Any] = {"name": name, "reason": missing.get(name, "")}
        row |= {key: numbers.get(name, 0) for key, numbers in figures.items()}
        if name in model_of:
            model = models[model_of[name]]
            points = [
                model.points3D[point.point3D_id]
                for point in by_name[model_of[name]][name].points2D
                if point.has_point3D()
            ]
            row |= {
                "model": model_of[name],
                "points": len(points),
                "error": round(float(np.mean([point.error for point in points])), 3),
                "track": round(float(np.mean([point.track.length() for point in points])), 2),
            }
        found.append(row)
    return found
