"""Small photos with the time in their EXIF data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def write_timed(path: Path, time: datetime | None) -> Path:
    """Write a photo that was taken at a time, or does not say when."""
    exif = Image.Exif()
    if time is not None:
        block = exif.get_ifd(ExifTags.IFD.Exif)
        block[ExifTags.Base.DateTimeOriginal] = f"{time:%Y:%m:%d %H:%M:%S}"
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(path, exif=exif)
    return path
