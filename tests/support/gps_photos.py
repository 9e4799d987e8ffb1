"""Small photos with GPS in their EXIF data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def write_photo(
    path: Path,
    latitude: float,
    longitude: float,
    altitude: float | None = None,
    precision: float | None = None,
    image: Image.Image | None = None,
) -> Path:
    """Write a photo, or one of 48 x 32 pixels, taken at a position in degrees and metres."""
    gps = ExifTags.GPS
    exif = Image.Exif()
    block = exif.get_ifd(ExifTags.IFD.GPSInfo)
    block[gps.GPSLatitudeRef] = "N" if latitude >= 0 else "S"
    block[gps.GPSLatitude] = _degrees(latitude)
    block[gps.GPSLongitudeRef] = "E" if longitude >= 0 else "W"
    block[gps.GPSLongitude] = _degrees(longitude)
    if altitude is not None:
        block[gps.GPSAltitudeRef] = b"\1" if altitude < 0 else b"\0"
        block[gps.GPSAltitude] = abs(altitude)
    if precision is not None:
        block[gps.GPSHPositioningError] = precision
    path.parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
        image = Image.fromarray(pixels)
    image.save(path, exif=exif.tobytes())
    return path


def _degrees(value: float) -> tuple[float, float, float]:
    minutes, seconds = divmod(abs(value) * 3600, 60)
    degrees, minutes = divmod(minutes, 60)
    return degrees, minutes, seconds
