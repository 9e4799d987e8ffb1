"""Tell pictures that are hardly photos: masks, blank or nearly black ones, thumbnails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from disk_hloc.errors import listing
from disk_hloc.log import logger

from .masks import Size

# Along each axis, one pixel of this many is looked at.
_STEP = 4
# JPEG makes several values of one.
_CLOSE = 6 / 255
_BLANK = 8 / 255
_DARK = 32 / 255
# The part of a mask's pixels that is black or white. Photos of the night are dark to 98 %, but have
# hardly anything white.
_TWO_VALUES = 0.99
_LEAST_OF_EACH = 0.01
# Whose longest side is less than this part of the median's is a thumbnail or an icon.
_THUMBNAIL = 0.25


def oddity(image: np.ndarray) -> str | None:
    """Say why a picture is hardly a photo, or None.

    Args:
        image: (C, H, W) float32 in [0, 1], as the network gets it.
    """
    pixels = image[:, ::_STEP, ::_STEP]
    if np.ptp(pixels, axis=(1, 2)).max() <= _BLANK:
        return "of one colour"
    high = float(pixels.max())
    if high < _DARK:
        return (
            f"nearly black, up to {round(255 * high)} of 255: of 16 bits only the upper 8 are used,"
            " so stretch them"
        )
    black = (pixels.max(axis=0) <= _CLOSE).mean()
    white = (pixels.min(axis=0) >= 1 - _CLOSE).mean()
    two = black + white >= _TWO_VALUES and min(black, white) >= _LEAST_OF_EACH
    return "black and white, as masks are" if two else None


def thumbnails(sizes: Mapping[str, Size]) -> dict[str, str]:
    """Return image name -> what to say of the pictures that are far smaller than the others.

    Args:
        sizes: image name -> width and height in pixels.
    """
    if not sizes:
        return {}
    longest = {name: max(size) for name, size in sizes.items()}
    limit = _THUMBNAIL * float(np.median(list(longest.values())))
    return {
        name: "{}x{} px, far smaller than the others".format(*sizes[name])
        for name, side in longest.items()
        if side < limit
    }


def warn(odd: Mapping[str, str], sizes: Mapping[str, Size]) -> None:
    """Log which of the pictures read are hardly photos; nothing is left out.

    Args:
        odd: image name -> :func:`oddity`, of those that have one.
        sizes: image name -> width and height in pixels, of all.
    """
    found = {**thumbnails(sizes), **odd}
    if found:
        logger.warning(
            "Hardly photos, but used as such: %s. If they should not be, move them to another "
            "folder (masks go to --masks DIR)",
            listing([f"{name} ({reason})" for name, reason in sorted(found.items())]),
        )
