"""Where photos were taken, for maps: RFC 7946."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.gps import LocalFrame
from disk_hloc.io.replace import replace_json

from .source import Source


def write(source: Source, folder: Path) -> None:
    """Write ``photos.geojson``: a point for each photo, with its name, altitude and heading.

    Altitudes are metres above sea level, headings degrees clockwise from north.

    Raises:
        DiskHlocError: the model is not georeferenced.
    """
    if source.frame is None:
        raise DiskHlocError(
            f"{source.model_dir} has no place on the earth: reconstruct photos with GPS and "
            "--georeference"
        )
    features = [_feature(image, source.frame) for image in source.images()]
    content = {"type": "FeatureCollection", "features": features}
    replace_json(folder / "photos.geojson", content)


def _feature(image: pycolmap.Image, frame: LocalFrame) -> dict[str, Any]:
    pose = colmap.to_pose(colmap.cam_from_world(image))
    latitude, longitude, altitude = frame.wgs84(pose.center)
    east, north, _ = pose.rotation[2]
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [longitude, latitude, altitude]},
        "properties": {
            "name": image.name,
            "altitude": altitude,
            "heading": float(np.degrees(np.arctan2(east, north)) % 360),
        },
    }
