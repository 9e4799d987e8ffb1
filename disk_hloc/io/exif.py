"""What a photo's EXIF data say: which way up it was held, when and where it was taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageFile

from disk_hloc.errors import PARSER_ERRORS

from .images import ImageReadError, opened

# EXIF orientation -> the quarter turns, counter-clockwise, that show the stored photo upright. The
# mirrored ones (2, 4, 5, 7), which no camera writes, are left as stored.
_QUARTER_TURNS = {3: 2, 6: 3, 8: 1}


@dataclass(frozen=True)
class Position:
    """Where a photo was taken.

    Attributes:
        latitude, longitude: in degrees, WGS84; north and east are positive.
        altitude: in metres above sea level, or None.
        precision: the horizontal error that the device reported in metres, or None.
    """

    latitude: float
    longitude: float
    altitude: float | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Exif:
    """What is used of a photo's EXIF data.

    Attributes:
        quarter_turns: how often the stored photo is to be turned by 90 degrees, counter-clockwise
            as by ``numpy.rot90``, to be upright; None where the data do not say.
        time: when it was taken, by the clock of the camera, or None.
        position: where it was taken, or None.
        focal_lengths: the focal length in mm, and that of a 35 mm camera, or None.
        maker, model: of the camera, or None.
    """

    quarter_turns: int | None = None
    time: datetime | None = None
    position: Position | None = None
    focal_lengths: tuple[float | None, float | None] = (None, None)
    maker: str | None = None
    model: str | None = None

    def focal_length_px(self, size: tuple[int, int]) -> float | None:
        """Return the focal length in pixels of a photo of this width and height, if it is known.

        From that of a 35 mm camera, whose frame has a diagonal of 43.3 mm, as in COLMAP.
        """
        equivalent = self.focal_lengths[1]
        if equivalent is None:
            return None
        return equivalent / math.hypot(36.0, 24.0) * math.hypot(*size)


def device_of(exif: Exif, size: tuple[int, int]) -> str | None:
    """Return what photos of one camera with one lens have in common; None if EXIF does not say.

    Args:
        exif: of a photo.
        size: its width and height in pixels.
    """
    if exif.focal_lengths == (None, None):
        return None
    width, height = size
    parts = [f"{width}x{height}", *exif.focal_lengths, exif.maker, exif.model]
    return " | ".join("-" if part is None else str(part) for part in parts)


def read_exif(source: Path | bytes) -> Exif:
    """Read a photo's EXIF data; what is missing, broken or absurd is None.

    Only the header is read. A photo that cannot be opened has no EXIF data.

    Args:
        source: the file, or its bytes.
    """
    try:
        with opened(source) as image:
            if image is None:
                return Exif()
            tags = tags_of(image)
            block, base = tags.get_ifd(ExifTags.IFD.Exif), ExifTags.Base
            return Exif(
                _quarter_turns(tags.get(base.Orientation)),
                _time(block, tags),
                _position(tags.get_ifd(ExifTags.IFD.GPSInfo)),
                (
                    _length(block.get(base.FocalLength)),
                    _length(block.get(base.FocalLengthIn35mmFilm)),
                ),
                _text(tags.get(base.Make)),
                _text(tags.get(base.Model)),
            )
    except (ImageReadError, OSError, *PARSER_ERRORS):
        return Exif()


def tags_of(image: ImageFile.ImageFile) -> Image.Exif:
    """Return the EXIF data in the header of an opened image.

    Pillow's own method decodes a PNG without EXIF data, in search of data behind the pixels: 0.4 s
    for 12 megapixels.
    """
    return Image.Image.getexif(image)


def _quarter_turns(orientation: Any) -> int | None:
    if orientation == 1:
        return 0
    return _QUARTER_TURNS.get(orientation) if isinstance(orientation, int) else None


def _time(block: Mapping[int, Any], tags: Mapping[int, Any]) -> datetime | None:
    base = ExifTags.Base
    text = block.get(base.DateTimeOriginal) or tags.get(base.DateTime)
    try:
        time = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    fraction = str(block.get(base.SubsecTimeOriginal, "")).strip("\0 ")
    return time + timedelta(seconds=float(f"0.{fraction}")) if fraction.isdecimal() else time


def _position(block: Mapping[int, Any]) -> Position | None:
    gps = ExifTags.GPS
    latitude = _degrees(block.get(gps.GPSLatitude), block.get(gps.GPSLatitudeRef), "S", 90)
    longitude = _degrees(block.get(gps.GPSLongitude), block.get(gps.GPSLongitudeRef), "W", 180)
    # Devices without a fix write zeros.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    altitude = _number(block.get(gps.GPSAltitude))
    if altitude is not None and block.get(gps.GPSAltitudeRef) in (1, b"\x01"):
        altitude = -altitude
    return Position(latitude, longitude, altitude, _number(block.get(gps.GPSHPositioningError)))


def _degrees(value: Any, side: Any, negative: str, largest: float) -> float | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    parts = [_number(part) for part in value]
    if any(part is None for part in parts):
        return None
    degrees = sum(part / 60**i for i, part in enumerate(parts))
    if degrees > largest:
        return None
    return -degrees if str(side).strip("\0 ").upper() == negative else degrees


def _length(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _text(value: Any) -> str | None:
    text = str(value).strip("\0 ") if value is not None else ""
    return text or None


def _number(value: Any) -> float | None:
    """Return a rational as a number; None for 0/0 and what is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
