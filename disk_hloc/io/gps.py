"""GPS positions of photos, and metres east, north and up of a point near them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .exif import Position, read_exif

# WGS84 (NIMA TR8350.2): the equatorial radius in metres, and the flattening.
_RADIUS = 6378137.0
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY_SQUARED = _FLATTENING * (2 - _FLATTENING)


def read_positions(image_dir: Path, names: Iterable[str]) -> dict[str, Position]:
    """Read image name -> position from EXIF data, of the images that have one."""
    found = ((name, read_exif(image_dir / name).position) for name in names)
    return {name: position for name, position in found if position is not None}


def enu_from_wgs84(positions: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Convert positions to the local frame of an origin: x east, y north, z up.

    The frame is Cartesian: its plane touches the ellipsoid at the origin, and leaves it by 8 cm
    after 1 km.

    Args:
        positions: (N, 3) latitude and longitude in degrees, altitude in metres. EXIF has altitudes
            above sea level and the ellipsoid has another zero, up to 100 m away; that makes
            distances wrong by up to 2e-5 of their length.
        origin: (3,) likewise.

    Returns:
        (N, 3) float64, in metres.
    """
    latitude, longitude = np.radians(origin[:2])
    (sin_lat, sin_lon), (cos_lat, cos_lon) = (f([latitude, longitude]) for f in (np.sin, np.cos))
    enu_from_ecef = np.array(
        [
            [-sin_lon, cos_lon, 0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )
    return (ecef_from_wgs84(positions) - ecef_from_wgs84(origin)) @ enu_from_ecef.T


def ecef_from_wgs84(positions: np.ndarray) -> np.ndarray:
    """Convert positions to the earth-centred frame: x to 0° N 0° E, z to the north pole.

    Args:
        positions: (..., 3) latitude and longitude in degrees, altitude in metres.

    Returns:
        (..., 3) float64, in metres.
    """
    latitude, longitude = np.radians(positions[..., 0]), np.radians(positions[..., 1])
    altitude = positions[..., 2]
    normal = _RADIUS / np.sqrt(1 - _ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    return np.stack(
        [
            (normal + altitude) * np.cos(latitude) * np.cos(longitude),
            (normal + altitude) * np.cos(latitude) * np.sin(longitude),
            (normal * (1 - _ECCENTRICITY_SQUARED) + altitude) * np.sin(latitude),
        ],
        axis=-1,
    )
