"""Accuracy and completeness of a model's points, against a scan, a mesh or depth maps.

Schöps et al., "A multi-view stereo benchmark with high-resolution images and multi-camera videos"
(ETH3D), CVPR 2017, measures dense clouds so; Dusmanu, Schönberger, Pollefeys, "Multi-view
optimization of local feature geometry", ECCV 2020, and Lindenberger, Sarlin, Larsson, Pollefeys,
"Pixel-perfect structure-from-motion with featuremetric refinement", ICCV 2021, the points that
local features triangulate with known poses. ETH3D's program also leaves out points in space that no
scanner saw; here they count as inaccurate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from scipy.spatial import cKDTree
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import read_model, update_errors
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.log import logger
from disk_hloc.report import tables

from .clouds import levels, shares_by_cell
from .model import align_model
from .truth import Truth, read_truth

# In metres, as ETH3D is.
THRESHOLDS = (0.01, 0.02, 0.05)
CELL = 0.01
# Of errors with a normal distribution, the standard deviation by their median absolute value, and
# beyond how many of them a point is an outlier.
_SIGMA_FROM_MEDIAN = 1.4826
_CUT_SIGMAS = 3
_DIGITS = 6

NOTE = (
    "Accuracy: share of the model's points within the threshold of the truth. Completeness: share "
    "of the truth within the threshold of a point. Both are means over cells, as of ETH3D "
    "(Schöps et al., CVPR 2017), but points in space that no scanner saw count, too; `of points` "
    "is the share without cells. F1 is the harmonic mean. Distances are in the unit of the truth; "
    "the rms is that of points up to 3 x 1.4826 x the median."
)


def main(
    model_dir: Path,
    output: Path,
    *,
    truth: Sequence[Path],
    reference: Path | None = None,
    poses: Path | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    cell: float = CELL,
    min_track_length: int = 2,
    max_error: float | None = None,
) -> dict[str, Any]:
    """Compare the points of a COLMAP model with known surfaces.

    Args:
        model_dir: the folder of the model, in the frame of the truth unless ``poses`` is given.
        output: the folder for ``results.json`` and ``results.md``.
        truth, reference: as :func:`disk_hloc.eval.truth.read_truth` takes them.
        poses: known poses in the frame of the truth (:mod:`disk_hloc.io.hloc.poses`): the model is
            aligned with them by its camera centres first.
        thresholds: distances in the unit of the truth.
        cell: side of the cells that shares are averaged over, in the unit of the truth; 0 counts
            points.
        min_track_length: points that fewer images see do not count.
        max_error: nor do points with a greater mean reprojection error, in pixels; None takes all.

    Returns:
        What ``results.json`` holds: ``thresholds``; for each ``accuracy``, ``completeness``, ``f1``
        and ``accuracy_of_points``; ``distance`` with ``mean``, ``median``, ``rms`` of the points
        within ``cut``, and the share of these, ``within_cut``; ``points`` that count, of
        ``points3D``; ``truth`` with its ``kinds`` and the number of ``points`` that completeness
        is measured at; ``aligned``, None or the ``scale`` and the number of ``images``.

    Raises:
        DiskHlocError: the model or the truth cannot be read, the model has no points that count, a
            threshold is not positive, or fewer than three images have a known pose.
    """
    thresholds = sorted(set(thresholds))
    if not thresholds or not (np.isfinite(thresholds).all() and thresholds[0] > 0):
        raise DiskHlocError(f"thresholds must be positive numbers, not {thresholds}")
    model = read_model(model_dir)
    points = _points(model, model_dir, min_track_length, max_error)
    aligned: dict[str, Any] | None = None
    if poses is not None:
        try:
            names, (scale, rotation, translation) = align_model(model, read_poses(poses))
        except DiskHlocError as error:
            raise DiskHlocError(f"cannot align {model_dir} with {poses}: {error}") from error
        points = scale * points @ rotation.T + translation
        aligned = {"scale": round(scale, 9), "images": len(names)}
    surfaces = read_truth(truth, reference)
    distances = surfaces.distances(points)
    if distances.min() > thresholds[-1]:
        logger.warning(
            "no point of %s is within %g of the truth, the nearest is at %g: give --poses if the "
            "model is in another frame", model_dir, thresholds[-1], distances.min(),
        )  # fmt: skip
    level = levels(distances, thresholds)
    accuracy = shares_by_cell(points, level, len(thresholds), cell)
    completeness, num_samples = _completeness(surfaces, points, thresholds, cell)
    results = {
        "thresholds": thresholds,
        "accuracy": _rounded(accuracy),
        "completeness": _rounded(completeness),
        "f1": _rounded([_f1(*both) for both in zip(accuracy, completeness, strict=True)]),
        "accuracy_of_points": _rounded(shares_by_cell(points, level, len(thresholds), 0)),
        "distance": _spread(distances),
        "points": len(points),
        "points3D": model.num_points3D(),
        "truth": {"kinds": surfaces.kinds, "points": num_samples},
        "aligned": aligned,
    }
    tables.write(output, "Triangulation", results, table(results), NOTE)
    return results


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table, a heading first."""
    keys = ("accuracy", "accuracy_of_points", "completeness", "f1")
    lines = [["within", "accuracy", "of points", "completeness", "F1"]]
    lines += [
        [f"{threshold:g}", *(f"{100 * results[key][i]:.2f} %" for key in keys)]
        for i, threshold in enumerate(results["thresholds"])
    ]
    distance = results["distance"]
    count = f"{results['points']} of {results['points3D']}"
    lines += [
        [title, value, "", "", ""]
        for title, value in (
            ("points", count),
            ("distance, mean", f"{distance['mean']:.6g}"),
            ("distance, median", f"{distance['median']:.6g}"),
            (f"distance, rms of {100 * distance['within_cut']:.1f} %", f"{distance['rms']:.6g}"),
        )
    ]
    return lines


def _points(
    model: pycolmap.Reconstruction, folder: Path, min_track_length: int, max_error: float | None
) -> np.ndarray:
    """Return the (N, 3) points that count."""
    if model.num_points3D() == 0:
        raise DiskHlocError(f"the COLMAP model {folder} has no points: triangulate it first")
    if max_error is not None:
        update_errors(model)
    kept = [
        point.xyz
        for point in model.points3D.values()
        if point.track.length() >= min_track_length
        and (max_error is None or point.error <= max_error)
    ]
    if not kept:
        raise DiskHlocError(
            f"none of the {model.num_points3D()} points of {folder} counts: lower "
            "--min-track-length or raise --max-reprojection-error"
        )
    return np.array(kept)


def _completeness(
    truth: Truth, points: np.ndarray, thresholds: Sequence[float], cell: float
) -> tuple[list[float], int]:
    """Return the shares of the truth near points, and at how many points they were measured."""
    tree = cKDTree(points)
    # Squares, of half a cell, so that few cells on a surface are without one.
    spacing = (cell or thresholds[0]) / 2
    # A bound that is not within itself by rounding would lose points at the last threshold.
    bound = thresholds[-1] * (1 + 1e-6)
    found, near = [], []
    with tqdm(desc="Completeness", unit="point", unit_scale=True) as progress:
        for block in truth.samples(spacing):
            distances = tree.query(block, distance_upper_bound=bound)[0]
            near.append(levels(distances, thresholds))
            found.append(block.astype(np.float32))
            progress.update(len(block))
    samples = np.concatenate(found)
    level = np.concatenate(near)
    return shares_by_cell(samples, level, len(thresholds), cell), len(samples)


def _f1(accuracy: float, completeness: float) -> float:
    total = accuracy + completeness
    return 2 * accuracy * completeness / total if total else 0.0


def _spread(distances: np.ndarray) -> dict[str, float]:
    median = float(np.median(distances))
    cut = _CUT_SIGMAS * _SIGMA_FROM_MEDIAN * median
    within = distances[distances <= cut]
    figures = {
        "mean": float(distances.mean()),
        "median": median,
        "cut": cut,
        "rms": float(np.sqrt((within**2).mean())),
        "within_cut": len(within) / len(distances),
    }
    return {name: round(value, 9) for name, value in figures.items()}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
