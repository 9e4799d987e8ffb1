"""Write where photos were taken: hloc's poses, JSON, or GeoJSON.

Answers are those of ``disk_hloc.Localization.to_json``, by the names of photos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose

from .hloc.poses import write_poses
from .outputs import require_output
from .replace import finite, replace_json

# Name of a photo -> what is known of it.
Answers = Mapping[str, Mapping[str, Any]]

SUFFIXES = (".txt", ".json", ".geojson")
# Of 95 % of a normal distribution in two dimensions, and in one, in standard deviations: what the
# Geolocation API of the W3C calls the accuracy.
_RADIUS_95, _INTERVAL_95 = 2.4477, 1.9600


def require_outputs(
    paths: Sequence[Path], georeferenced: bool, inputs: Mapping[str, Path | None]
) -> None:
    """Check that results can be written, before anything is localized.

    Args:
        paths: of :func:`write_answers`.
        georeferenced: whether the map is in metres, and its place on the earth is known.
        inputs: see :func:`disk_hloc.io.outputs.require_output`.

    Raises:
        DiskHlocError: a suffix says nothing, GeoJSON is asked of a map that has no place on the
            earth, or as :func:`disk_hloc.io.outputs.require_output`.
    """
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise DiskHlocError(
                f"the output {path} must end with .txt (poses), .json or .geojson, which says what "
                "is written"
            )
        if path.suffix.lower() == ".geojson" and not georeferenced:
            raise DiskHlocError(
                f"{path} needs latitudes and longitudes, and the map has none: build it from "
                "photos with GPS and --georeference, or write .json"
            )
        require_output(path, "text", inputs)


def write_answers(path: Path, answers: Answers, about: Mapping[str, Any]) -> None:
    """Write answers in the form that the suffix of the path says.

    Args:
        path: ``.txt`` gets a line ``name qw qx qy qz tx ty tz`` (cam_from_world) for each photo
            that was localized; ``.json`` all that is known, with ``photos`` by name; ``.geojson``
            a point for each photo, with properties as of the W3C's Geolocation API: ``accuracy``
            and ``altitudeAccuracy`` (metres, 95 %), ``altitude`` (metres above sea level), and
            ``heading`` (degrees clockwise from north).
        answers: of all photos.
        about: what the JSON file says besides.
    """
    match path.suffix.lower():
        case ".txt":
            poses = {name: _pose(answer) for name, answer in answers.items()}
            found = {name: pose for name, pose in poses.items() if pose is not None}
            write_poses(path, found, header=False)
        case ".json":
            replace_json(path, {**about, "photos": answers})
        case _:
            features = [_feature(name, answer) for name, answer in answers.items()]
            replace_json(path, {"type": "FeatureCollection", "features": features})


def json_line(name: str, answer: Mapping[str, Any]) -> str:
    """Return an answer as one line of JSON."""
    return json.dumps(finite({"name": name, **answer}), allow_nan=False)


def _pose(answer: Mapping[str, Any]) -> Pose | None:
    found = answer.get("cam_from_world")
    if found is None:
        return None
    return Pose(np.array(found["quaternion"]), np.array(found["translation"]))


def _feature(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": name}
    position = answer.get("position")
    if position is None:
        properties["reason"] = answer.get("reason") or answer.get("error")
        return {"type": "Feature", "geometry": None, "properties": properties}
    properties |= {
        "altitude": position["altitude"],
        "heading": answer["heading"],
        "inliers": answer["inliers"],
    }
    if answer["center_covariance"] is not None:
        # x is east, y north and z up.
        covariance = np.array(answer["center_covariance"])
        widest = np.linalg.eigvalsh(covariance[:2, :2]).max()
        properties["accuracy"] = _RADIUS_95 * float(np.sqrt(widest))
        properties["altitudeAccuracy"] = _INTERVAL_95 * float(np.sqrt(covariance[2, 2]))
    point = {"type": "Point", "coordinates": [position["longitude"], position["latitude"]]}
    return {"type": "Feature", "geometry": point, "properties": properties}
