"""Colours of a model's points, from the photos that see them.

COLMAP's mapper decodes each photo for them as it registers it, in one thread: 0.2 s for 12
megapixels. Here photos are read once the model is complete, by all cores, large ones at half their
size, and only those that are needed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import listing
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.log import logger

_MAX_THREADS = 16
# Photos with more pixels are decoded at half their size.
_MANY_PIXELS = 2_000_000


def main(
    model: pycolmap.Reconstruction, image_dir: Path, names: Collection[str] | None = None
) -> None:
    """Give the points of a model that are black the colour of a pixel that shows them.

    Args:
        model: changed in place.
        image_dir: the photos. Points of one that cannot be read stay black.
        names: the photos to take colours from; None for all.
    """
    black = _black_points(model, names)
    unread = []

    def read(image_id: int) -> np.ndarray | ImageReadError:
        image = model.images[image_id]
        xy = np.array([image.points2D[keypoint].xy for _, keypoint in black[image_id]])
        camera = model.cameras[image.camera_id]
        try:
            return _colors(image_dir / image.name, xy, (camera.width, camera.height))
        except ImageReadError as error:
            return error

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_THREADS)) as threads:
        found = tqdm(threads.map(read, black), total=len(black), desc="Color", unit="image")
        for (image_id, points), colors in zip(black.items(), found, strict=True):
            if isinstance(colors, ImageReadError):
                unread.append(f"{model.images[image_id].name} ({colors})")
                continue
            for (point_id, _), color in zip(points, colors, strict=True):
                model.points3D[point_id].color = color
    if unread:
        logger.warning("Points stay black, since photos cannot be read: %s", listing(unread))


def _black_points(
    model: pycolmap.Reconstruction, names: Collection[str] | None
) -> dict[int, list[tuple[int, int]]]:
    """Return image id -> black points and the keypoints that see them: each point's first."""
    image_ids = {i for i, image in model.images.items() if names is None or image.name in names}
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for point_id, point in model.points3D.items():
        if point.color.any():
            continue
        for seen in point.track.elements:
            if seen.image_id in image_ids:
                found[seen.image_id].append((point_id, seen.point2D_idx))
                break
    return found


def _colors(path: Path, xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the (N, 3) uint8 RGB of a photo at (N, 2) pixels, COLMAP's, of its full size."""
    image = read_image(path, small=size[0] * size[1] > _MANY_PIXELS)
    shown = np.array(image.shape[1::-1])
    x, y = (xy * (shown / size)).astype(int).clip(0, shown - 1).T
    return image[y, x]
