"""Pairs of photos that were taken near each other."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from disk_hloc.errors import listing
from disk_hloc.io.exif import Position
from disk_hloc.io.gps import ecef_from_wgs84
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.log import logger

from .photos import NoPairs, Photos


def spatial(photos: Photos, *, num_matched: int, max_distance: float) -> list[Pair]:
    """Pair every photo with those that were taken nearest to it, by the GPS in their EXIF data.

    As COLMAP's spatial matcher, altitudes are not used: those of phones are off by tens of metres.

    Args:
        photos: the photos; those without a position are in no pair, and named in a warning.
        num_matched: how many photos each photo is paired with, at most.
        max_distance: how far they may be from it, in metres.

    Raises:
        NoPairs: fewer than two photos have a position, or none are that near to each other.
    """
    found = located(photos)
    missing = [name for name in photos.names if name not in found]
    if missing:
        logger.warning(
            "%d of %d photos have no GPS position, so it gives them no pairs: %s",
            len(missing), len(photos.names), listing(missing),
        )  # fmt: skip
    pairs = nearest(found, num_matched, max_distance)
    if not pairs:
        raise NoPairs(
            f"no two photos of {photos.image_dir} were taken within {max_distance:g} m of each "
            "other by their GPS positions: choose other pairs"
        )
    return pairs


def located(photos: Photos) -> dict[str, Position]:
    """Return the positions of the photos that have one.

    Raises:
        NoPairs: fewer than two have one.
    """
    found = positions(photos)
    if len(found) < 2:
        source = photos.image_dir or "a features file"
        raise NoPairs(
            f"{len(found) or 'none'} of the {len(photos.names)} photos of {source} has a GPS "
            "position in its EXIF data, and pairs by position need two: choose other pairs"
        )
    return found


def positions(photos: Photos) -> dict[str, Position]:
    """Return the positions of the photos that have one."""
    found = {name: photos.exif[name].position for name in photos.names}
    return {name: position for name, position in found.items() if position is not None}


def nearest(positions: dict[str, Position], num_matched: int, max_distance: float) -> list[Pair]:
    """Return the pairs of every photo with the nearest others, at most ``max_distance`` metres."""
    names = list(positions)
    angles = [(position.latitude, position.longitude, 0.0) for position in positions.values()]
    points = ecef_from_wgs84(np.array(angles))
    # Of photos taken at one place, a photo itself need not be the first found.
    count = min(num_matched + 1, len(names))
    distances, places = cKDTree(points).query(points, count, distance_upper_bound=max_distance)
    pairs: list[Pair] = []
    for i, (row, others) in enumerate(zip(distances, places, strict=True)):
        found = [j for j, far in zip(others, row, strict=True) if math.isfinite(far) and j != i]
        pairs += [(names[i], names[j]) for j in found[:num_matched]]
    return pairs
