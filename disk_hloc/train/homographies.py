"""Random homographies that show a part of a photo, as MSNet is trained with.

They are those of lin-zju/my-descriptor-space on GitHub (``sample_homography``): a perspective, then
a rotation, then a zoom. Each cuts a quadrangle out of the photo and stretches it to the whole
image, so that a warped photo has no empty parts. Here corners lie at the outer edges of pixels,
and are not rounded.
"""

from __future__ import annotations

import cv2
import numpy as np


def random_warp(
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    zoom: float,
    rotation: float,
    perspective: float,
    left: bool,
) -> np.ndarray:
    """Draw a homography.

    Args:
        size: width and height of the photo and of the warped one, in pixels.
        rng: of the random numbers.
        zoom: least share of the photo's sides that is shown; 1 is no zoom.
        rotation: largest angle in degrees, to both sides.
        perspective: share of the height that is shown at the side that is seen from near; 1 is no
            perspective.
        left: whether that is the left side.

    Returns:
        (3, 3) float64 warped_from_photo, (0, 0) at the centre of the top-left pixel.
    """
    center = (np.array(size) - 1) / 2
    half = np.array(size) / 2
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * half

    sheared = corners.copy()
    sheared[[0, 3] if left else [1, 2], 1] *= perspective
    turned = _turned(corners, half, np.radians(rng.uniform(-rotation, rotation)))
    share = rng.uniform(zoom, 1)
    zoomed = corners * share + half * (1 - share) * rng.uniform(-1, 1, 2)
    whole = np.eye(3)
    for part in (sheared, turned, zoomed):
        whole = _homography(part + center, corners + center) @ whole
    return whole / whole[2, 2]


def _turned(corners: np.ndarray, half: np.ndarray, angle: float) -> np.ndarray:
    """Turn corners about the origin, and shrink them until they are inside again."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = corners @ np.array([[cosine, -sine], [sine, cosine]])
    return turned * (half / turned.max(axis=0)).min()


def _homography(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.getPerspectiveTransform(before.astype(np.float32), after.astype(np.float32))
