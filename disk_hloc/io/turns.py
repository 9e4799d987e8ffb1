"""Photos and keypoints turned by quarters: the arithmetic, and the choices of an option.

Quarters are counter-clockwise, as of ``numpy.rot90``. (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Name of a photo -> the quarters by which it is turned before it is looked at, 1 to 3. A photo that
# is not in it is taken as it is stored.
Turns = Mapping[str, int]


def turned(image: np.ndarray, quarters: int) -> np.ndarray:
    """Turn an image.

    Args:
        image: (..., H, W).
        quarters: how often by 90 degrees, counter-clockwise.

    Returns:
        (..., H, W) or (..., W, H), a view.
    """
    return np.rot90(image, quarters, axes=(-2, -1))


def turned_back(keypoints: np.ndarray, quarters: int, size: tuple[int, int]) -> np.ndarray:
    """Convert points of a turned image to those of the image before it was turned.

    Args:
        keypoints: (N, 2) x and y in pixels of the turned image.
        quarters: by which :func:`turned` turned it.
        size: width and height of the image before, in pixels.

    Returns:
        (N, 2) of the same dtype.
    """
    x, y = keypoints.T
    right, bottom = (keypoints.dtype.type(side - 1) for side in size)
    places = ((x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x))
    return np.stack(places[quarters % 4], axis=1)


def in_degrees(turns: Turns) -> dict[str, int]:
    """Return turns in degrees, counter-clockwise."""
    return {name: 90 * quarters for name, quarters in turns.items()}
