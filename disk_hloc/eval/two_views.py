"""Evaluate relative poses of calibrated pairs: from files to figures and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.geometry import relative_pose
from disk_hloc.io.benchmarks.calibrated_pairs import CalibratedPair, read_calibrated_pairs
from disk_hloc.io.benchmarks.calibration import read_calibrations
from disk_hloc.io.colmap import camera_object
from disk_hloc.io.hloc.features import list_keypoints
from disk_hloc.io.hloc.matches import find_pair
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.store import reading
from disk_hloc.log import logger
from disk_hloc.report import plots, tables

from . import accuracy, estimators, stereo

# SuperGlue's.
AUC_LIMITS_DEGREES = (5, 10, 20)
NOTE = (
    "The error of a pair is the greater of the errors of rotation and translation direction, in "
    "degrees; it is infinite without a pose. mAA is the Image Matching Challenge's, AUC the area "
    "under the share of errors below a limit."
)


def main(
    feature_path: Path,
    match_path: Path,
    output: Path,
    *,
    pairs: Path | None = None,
    calibration: Path | None = None,
    pairs_with_gt: Path | None = None,
    threshold: float = estimators.THRESHOLD_PX,
    library: str | None = None,
) -> dict[str, Any]:
    """Estimate the relative pose of each pair and compare it with the known one.

    Args:
        feature_path: any hloc features file.
        match_path: any hloc matches file.
        output: the folder for ``results.json``, ``results.md``, ``results.png``, ``results.svg``.
        pairs: the pairs file, with ``calibration``.
        calibration: a folder of the Image Matching Challenge's calibration files.
        pairs_with_gt: SuperGlue's pairs with ground truth, instead of these two.
        threshold: the greatest distance of an inlier from its epipolar line, in pixels.
        library: ``poselib`` or ``pycolmap``; None takes PoseLib where it is installed.

    Returns:
        What ``results.json`` holds: ``settings``; ``figures`` (:func:`figures_of`); ``errors``: a
        list of ``[name0, name1, degrees]``, None for a pair without a pose.

    Raises:
        DiskHlocError: the known poses are given twice or not at all, files do not fit each other,
            or no pair is matched.
    """
    known = _known(pairs, calibration, pairs_with_gt)
    _require_matched(feature_path, match_path, known)
    library = library or estimators.estimator()
    errors = stereo.calibrated_pair_errors(feature_path, match_path, known, threshold, library)
    results: dict[str, Any] = {
        "settings": {"estimator": library, "threshold": threshold},
        "figures": figures_of(errors),
        "errors": [
            [*pair.names, round(float(error), 4) if np.isfinite(error) else None]
            for pair, error in zip(known, errors, strict=True)
        ],
    }
    name = match_path.stem
    tables.write(output, "Relative poses", results, table(name, results["figures"]), NOTE)
    limits = np.linspace(0, max(AUC_LIMITS_DEGREES), 201)
    shares = (errors[:, None] <= limits).mean(axis=0)
    curve = (limits.tolist(), shares.tolist(), True)
    plots.plot(output, {"relative pose": {name: curve}}, "error (degrees)", "share of pairs")
    return results


def figures_of(errors: np.ndarray) -> dict[str, Any]:
    """Return the figures of (P,) errors in degrees.

    Returns:
        ``pairs``; ``failed``, those without a pose; ``median`` in degrees, None if half of them
        failed; ``maa`` and ``auc`` by limit in degrees.
    """
    median = float(np.median(errors))
    return {
        "pairs": len(errors),
        "failed": int(np.isinf(errors).sum()),
        "median": round(median, 4) if np.isfinite(median) else None,
        "maa": {
            str(one): round(accuracy.mean_accuracy(errors, one), 4)
            for one in accuracy.LIMITS_DEGREES
        },
        "auc": {str(one): round(accuracy.auc(errors, one), 4) for one in AUC_LIMITS_DEGREES},
    }


def table(name: str, figures: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table, a heading first."""
    heading = ["matches", "pairs", "without pose", "median"]
    heading += [f"{key} {'/'.join(figures[key.lower()])}" for key in ("mAA", "AUC")]
    median = "" if figures["median"] is None else f"{figures['median']:.2f}"
    line = [name, str(figures["pairs"]), str(figures["failed"]), median]
    line += ["/".join(f"{one:.3f}" for one in figures[key].values()) for key in ("maa", "auc")]
    return [heading, line]


def _known(
    pairs: Path | None, calibration: Path | None, pairs_with_gt: Path | None
) -> list[CalibratedPair]:
    if pairs_with_gt is not None:
        if pairs is not None or calibration is not None:
            raise DiskHlocError(
                f"{pairs_with_gt} has pairs and cameras: leave out PAIRS and --calibration"
            )
        return read_calibrated_pairs(pairs_with_gt)
    if pairs is None or calibration is None:
        raise DiskHlocError("give PAIRS and --calibration, or --pairs-with-gt")
    chosen = read_pairs(pairs)
    texts, poses = read_calibrations(
        calibration, sorted({name for pair in chosen for name in pair})
    )
    # Relative poses do not depend on the photos' sizes.
    cameras = {name: camera_object(text, 1, 1) for name, text in texts.items()}
    return [
        CalibratedPair(
            (name0, name1),
            cameras[name0],
            cameras[name1],
            *relative_pose(poses[name0], poses[name1]),
        )
        for name0, name1 in chosen
    ]


def _require_matched(feature_path: Path, match_path: Path, known: list[CalibratedPair]) -> None:
    present = set(list_keypoints(feature_path))
    missing = sorted({name for pair in known for name in pair.names} - present)
    if missing:
        raise DiskHlocError(
            f"{feature_path} has no features of {len(missing)} images of the pairs: "
            f"{listing(missing)}; extract them first, or remove them from the pairs"
        )
    with reading(match_path) as file:
        unmatched = [" ".join(pair.names) for pair in known if find_pair(file, *pair.names) is None]
    if len(unmatched) == len(known):
        raise DiskHlocError(f"{match_path} has none of the pairs: match them first")
    if unmatched:
        logger.warning(
            "%d of %d pairs are not in %s and count as failed: %s",
            len(unmatched), len(known), match_path, listing(unmatched),
        )  # fmt: skip
