"""GPS positions of photos, and metres east, north and up of a point near them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError

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
    return (ecef_from_wgs84(positions) - ecef_from_wgs84(origin)) @ _enu_from_ecef(origin).T


def _enu_from_ecef(origin: np.ndarray) -> np.ndarray:
    """Return the (3, 3) rotation to the local frame of an origin."""
    latitude, longitude = np.radians(origin[:2])
    (sin_lat, sin_lon), (cos_lat, cos_lon) = (f([latitude, longitude]) for f in (np.sin, np.cos))
    return np.array(
        [
            [-sin_lon, cos_lon, 0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


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


def wgs84_from_enu(points: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Convert points of the local frame of an origin to positions, as of :func:`enu_from_wgs84`.

    By Bowring's formula, "Transformation from spatial to geographical coordinates", Survey Review
    1976, which is exact to micrometres near the ground.

    Args:
        points: (N, 3) in metres: x east, y north, z up.
        origin: (3,) latitude and longitude in degrees, altitude in metres.

    Returns:
        (N, 3) float64 latitude and longitude in degrees, altitude in metres.
    """
    x, y, z = (points @ _enu_from_ecef(origin) + ecef_from_wgs84(origin)).T
    across = np.hypot(x, y)
    polar = _RADIUS * (1 - _FLATTENING)
    parametric = np.arctan2(z * _RADIUS, across * polar)
    second_eccentricity = _ECCENTRICITY_SQUARED / (1 - _ECCENTRICITY_SQUARED)
    latitude = np.arctan2(
        z + second_eccentricity * polar * np.sin(parametric) ** 3,
        across - _ECCENTRICITY_SQUARED * _RADIUS * np.cos(parametric) ** 3,
    )
    normal = _RADIUS / np.sqrt(1 - _ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    # Along the normal, so that it holds at the poles, too.
    altitude = (
        across * np.cos(latitude) + z * np.sin(latitude)
        - normal * (1 - _ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    )  # fmt: skip
    return np.stack([np.degrees(latitude), np.degrees(np.arctan2(y, x)), altitude], axis=-1)


@dataclass(frozen=True)
class LocalFrame:
    """The frame of a georeferenced model: metres east, north and up of an origin.

    Attributes:
        origin: (3,) latitude and longitude in degrees (WGS84), altitude in metres.
    """

    origin: np.ndarray

    def wgs84(self, point: np.ndarray) -> tuple[float, float, float]:
        """Return latitude, longitude and altitude of a (3,) point of the frame."""
        latitude, longitude, altitude = wgs84_from_enu(point[None], self.origin)[0]
        return float(latitude), float(longitude), float(altitude)


def read_frame(path: Path) -> LocalFrame | None:
    """Read the frame of a model from its ``georeference.json``; None without that file.

    Raises:
        DiskHlocError: the file is broken.
    """
    if not path.is_file():
        return None
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))["origin"]
        values = np.array([origin[key] for key in ("latitude", "longitude", "altitude")], float)
        if not np.isfinite(values).all():
            raise ValueError("the origin is not finite")
    except PARSER_ERRORS as error:
        raise DiskHlocError(f"{path} is broken: {' '.join(str(error).split())}") from error
    return LocalFrame(values)
