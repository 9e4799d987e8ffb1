"""A model in metres, by the GPS positions of its photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import align
from disk_hloc.io import colmap
from disk_hloc.io.exif import Position
from disk_hloc.io.gps import enu_from_wgs84, read_positions
from disk_hloc.io.replace import replace_json
from disk_hloc.log import logger

# A similarity has 7 unknowns and a position gives 3 equations.
_LEAST = 3
_UNKNOWNS = 7
# Below this many positions their scatter says little of their precision.
_ENOUGH_TO_JUDGE = 6
# The standard deviation of one coordinate, in metres, where few photos say nothing of it: the
# horizontal error of civil GPS is below 8 m in 95 % of cases (GPS SPS Performance Standard, 2020).
_PRECISION_M = 3.0
# The most triples of photos that are tried. Where half of the positions are wrong, an eighth of the
# triples has none of them.
_MAX_TRIPLES = 500
# A position is an outlier from this many median residuals on: of three normal coordinates, one in
# 10,000 is.
_OUTLIER = 3.0
_SMALLEST_THRESHOLD_M = 0.01
# The largest uncertainty of the model's tilt about the line of its photos, in degrees.
_MAX_TILT = 15.0


@dataclass(frozen=True)
class Similarity:
    """A ``metres_from_model``: scale, then rotation, then translation.

    Attributes:
        scale: metres per unit of the model.
        rotation: (3, 3).
        translation: (3,) in metres.
        inliers: (N,) bool, which of the positions it is estimated from.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    inliers: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return (N, 3) points in metres."""
        return self.scale * points @ self.rotation.T + self.translation


def main(model_dir: Path, image_dir: Path, output: Path) -> dict[str, Any]:
    """Align a model to the GPS positions of its photos and write it in metres.

    The new frame is local: x points east, y north and z up, from an origin among the photos. The
    camera centres are brought to the positions by a similarity, robustly (:func:`estimate`); the
    model's shape does not change.

    Args:
        model_dir: a COLMAP model.
        image_dir: its photos, with GPS in their EXIF data.
        output: the folder for the model and ``georeference.json``; a former one is replaced.

    Returns:
        What ``georeference.json`` holds: ``origin`` (latitude and longitude in degrees, altitude in
        metres above sea level), ``scale`` (metres per unit of the former model), ``positions`` and
        ``inliers`` (numbers of photos), ``median_horizontal`` and ``median_vertical`` (residuals
        in metres), ``tilt`` (the uncertainty of the model's tilt in degrees), and ``photos``: name
        -> ``horizontal``, ``vertical`` (positive where the model is higher) and ``inlier``.

    Raises:
        DiskHlocError: too few registered photos have a position with an altitude, they are in a
            line or at one place, the positions do not fit the model, or there is no model.
    """
    if output.exists() and output.samefile(model_dir):
        raise DiskHlocError(f"{output} is the model itself: give another folder")
    model = colmap.read_model(model_dir)
    names = sorted(image.name for image in colmap.registered_images(model))
    positions = read_positions(image_dir, names)
    report, similarity = _aligned(model, positions, model_dir, image_dir)
    model.transform(
        pycolmap.Sim3d(
            similarity.scale, pycolmap.Rotation3d(similarity.rotation), similarity.translation
        )
    )
    with colmap.building(output) as folder:
        colmap.write_model(model, folder)
        replace_json(folder / colmap.GEOREFERENCE, report)
    logger.info(
        "Georeferenced by %d of %d positions: median residuals %.2f m horizontally, %.2f m "
        "vertically",
        report["inliers"],
        report["positions"],
        report["median_horizontal"],
        report["median_vertical"],
    )
    if report["positions"] < _ENOUGH_TO_JUDGE:
        logger.warning(
            "Only %d photos have a GPS position: a wrong one among them would not be noticed",
            report["positions"],
        )
    return report


def _aligned(
    model: pycolmap.Reconstruction,
    positions: Mapping[str, Position],
    model_dir: Path,
    image_dir: Path,
) -> tuple[dict[str, Any], Similarity]:
    """Return what is reported of the alignment, and the similarity.

    Raises:
        DiskHlocError: see :func:`main`.
    """
    used = {name: p for name, p in positions.items() if p.altitude is not None}
    if len(used) < _LEAST:
        flat = len(positions) - len(used)
        also = f"; {flat} more have one without altitude" if flat else ""
        raise DiskHlocError(
            f"{model_dir} cannot be georeferenced: {len(used)} of its {model.num_reg_images()} "
            f"photos in {image_dir} have a GPS position, and 3 are needed{also}"
        )
    poses = colmap.poses_of(model)
    names = sorted(used)
    centers = np.array([poses[name].center for name in names])
    degrees = np.array([[p.latitude, p.longitude, p.altitude] for p in map(used.get, names) if p])
    origin = np.median(degrees, axis=0).round(7)
    enu = enu_from_wgs84(degrees, origin)
    similarity = estimate(centers, enu)
    residuals = similarity(centers) - enu
    stated = [p.precision for p in used.values() if p.precision]
    tilt = _tilt(similarity, centers, residuals, float(np.median(stated)) if stated else None)
    horizontal = np.linalg.norm(residuals[:, :2], axis=1)
    vertical = residuals[:, 2]
    if tilt > _MAX_TILT:
        why = _why_not(similarity(centers), enu, tilt, similarity.inliers)
        raise DiskHlocError(f"{model_dir} cannot be georeferenced: {why}")
    return {
        "origin": dict(zip(("latitude", "longitude", "altitude"), map(float, origin), strict=True)),
        "scale": similarity.scale,
        "positions": len(names),
        "inliers": int(similarity.inliers.sum()),
        "median_horizontal": round(float(np.median(horizontal)), 3),
        "median_vertical": round(float(np.median(np.abs(vertical))), 3),
        "tilt": round(tilt, 2),
        "photos": {
            name: {
                "horizontal": round(float(horizontal[i]), 3),
                "vertical": round(float(vertical[i]), 3),
                "inlier": bool(similarity.inliers[i]),
            }
            for i, name in enumerate(names)
        },
    }, similarity


def estimate(centers: np.ndarray, positions: np.ndarray) -> Similarity:
    """Estimate the similarity that brings camera centres to positions, despite outliers.

    Least median of squares (Rousseeuw, "Least median of squares regression", JASA 1984) over
    triples of photos, then least squares over the inliers. It needs no threshold, so it suits
    phones (metres) as well as RTK (centimetres), and bears outliers up to half of the positions.

    Args:
        centers: (N, 3), N >= 3.
        positions: (N, 3) in metres, in the same order.

    Returns:
        The same each time for the same input.
    """
    count = len(centers)
    # The order statistic that the method minimizes with 3 photos in a sample.
    rank = min(count // 2 + 2, count) - 1
    best, best_error = None, np.inf
    for triple in _triples(count):
        chosen = list(triple)
        candidate = _fitted(centers[chosen], positions[chosen])
        error = np.partition(_distances(candidate, centers, positions), rank)[rank]
        if error < best_error:
            best, best_error = candidate, error
    if best is None or count == _LEAST:
        best = _fitted(centers, positions)
        return Similarity(*best, np.ones(count, bool))
    margin = _OUTLIER * (1 + 5 / (count - _LEAST))
    limit = max(margin * best_error, _SMALLEST_THRESHOLD_M)
    inliers = _distances(best, centers, positions) <= limit
    for _ in range(10):
        best = _fitted(centers[inliers], positions[inliers])
        distances = _distances(best, centers, positions)
        limit = max(margin * np.partition(distances, rank)[rank], _SMALLEST_THRESHOLD_M)
        before, inliers = inliers, distances <= limit
        if (before == inliers).all():
            break
    return Similarity(*_fitted(centers[inliers], positions[inliers]), inliers)


_Fitted = tuple[float, np.ndarray, np.ndarray]


def _fitted(centers: np.ndarray, positions: np.ndarray) -> _Fitted:
    with np.errstate(divide="ignore", invalid="ignore"):  # centres at one place
        return align(centers, positions)


def _distances(fitted: _Fitted, centers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    scale, rotation, translation = fitted
    distances = np.linalg.norm(scale * centers @ rotation.T + translation - positions, axis=1)
    return np.nan_to_num(distances, nan=np.inf)


def _triples(count: int) -> Iterable[Iterable[int]]:
    if comb(count, 3) <= _MAX_TRIPLES:
        return combinations(range(count), 3)
    rng = np.random.default_rng(0)
    return (rng.choice(count, 3, replace=False) for _ in range(_MAX_TRIPLES))


def _tilt(
    similarity: Similarity, centers: np.ndarray, residuals: np.ndarray, stated: float | None
) -> float:
    """Return the standard deviation of the model's tilt about the line of its photos, in degrees.

    It is that of a position, over how far the photos spread to the sides of that line.
    """
    inliers = similarity.inliers
    count = int(inliers.sum())
    freedom = max(3 * count - _UNKNOWNS, 1)
    deviation = float(np.sqrt((residuals[inliers] ** 2).sum() / freedom))
    if count < _ENOUGH_TO_JUDGE:
        deviation = max(deviation, stated if stated is not None else _PRECISION_M)
    spread = np.linalg.svd(similarity.scale * (centers - centers.mean(axis=0))[inliers])[1]
    sides = spread[1]
    if not np.isfinite(deviation) or not sides > 0:
        return 90.0
    return float(np.degrees(np.arctan2(deviation, sides)))


def _why_not(metric: np.ndarray, enu: np.ndarray, tilt: float, inliers: np.ndarray) -> str:
    """Say why positions do not tell how the model lies."""
    extent = np.linalg.svd(enu[inliers] - enu[inliers].mean(axis=0))[1] / np.sqrt(inliers.sum())
    error = float(np.median(np.linalg.norm(metric - enu, axis=1)))
    if not np.isfinite(error) or error > 0.5 * extent[0]:
        return (
            f"the GPS positions of its photos do not fit it (median residual {error:.1f} m, while "
            f"the photos spread over {extent[0]:.1f} m): are they those of other photos?"
        )
    return (
        f"its photos are nearly in a line or at one place (by GPS they spread over "
        f"{extent[0]:.1f} m, and {extent[1]:.1f} m across), so its tilt would be uncertain by "
        f"{tilt:.0f} degrees: add photos from the sides"
    )
