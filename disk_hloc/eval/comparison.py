"""The figures that features and matchers are compared by, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import read_verified
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading
from disk_hloc.report import tables

from . import accuracy, stereo
from .model import pose_errors, summarize

DIGITS = 4
Figures = dict[str, Any]


def of_matches(
    feature_path: Path, match_path: Path, pairs: Sequence[Pair], database_path: Path
) -> Figures:
    """Return the figures of features and matches.

    Args:
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs; all are matched.
        database_path: COLMAP's database with the pairs verified.

    Returns:
        ``keypoints`` (mean of an image), ``matches`` and ``verified`` (means of a pair),
        ``inlier_ratio`` (of all matches), ``verified_pairs``.
    """
    names = sorted({name for pair in pairs for name in pair})
    with reading(feature_path) as features:
        keypoints = [len(read_keypoints(features, name)) for name in names]
    with reading(match_path) as file:
        found = [read_matches(file, *pair) for pair in pairs]
    matches = sum(0 if one is None else len(one) for one in found)
    verified = read_verified(database_path)
    inliers = sum(len(one) for one in verified.values())
    return {
        "keypoints": round(float(np.mean(keypoints)), 1),
        "matches": round(matches / len(pairs), 1),
        "verified": round(inliers / len(pairs), 1),
        "inlier_ratio": round(inliers / matches, DIGITS) if matches else None,
        "verified_pairs": sum(len(one) > 0 for one in verified.values()),
    }


def of_model(model: pycolmap.Reconstruction | None, num_images: int) -> Figures:
    """Return figures of a model (:func:`disk_hloc.eval.model.summarize`); None has no images."""
    if model is not None:
        return summarize(model, num_images)
    return {"images": num_images, "registered": 0, "points3D": 0, "observations": 0}


def of_poses(
    model: pycolmap.Reconstruction | None,
    feature_path: Path,
    match_path: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera] | None,
    truth: Mapping[str, Pose],
) -> Figures:
    """Return the figures that known poses give.

    Args:
        model: the reconstruction, None if it could not be built.
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs; all are matched.
        cameras: image name -> known camera; None leaves out the stereo figures.
        truth: image name -> known pose.

    Returns:
        ``stereo_maa`` and ``stereo_auc`` of the matches and ``model_maa`` of the model, each by
        limit in degrees; ``position_error`` (the poses' unit) and ``rotation_error`` (degrees),
        means after an alignment, where the model has three images with a pose.
    """
    figures: Figures = {}
    if cameras is not None:
        errors = stereo.pair_errors(feature_path, match_path, pairs, cameras, truth)
        figures["stereo_maa"] = _by_limit(accuracy.mean_accuracy, errors)
        figures["stereo_auc"] = _by_limit(accuracy.auc, errors)
    if model is None:
        return {**figures, "model_maa": {str(limit): 0.0 for limit in accuracy.LIMITS_DEGREES}}
    figures["model_maa"] = _by_limit(
        accuracy.mean_accuracy, stereo.model_pair_errors(model, pairs, truth)
    )
    try:
        aligned = pose_errors(model, truth)
    except DiskHlocError:
        return figures
    return {
        **figures,
        "position_error": round(float(aligned.position.mean()), 6),
        "rotation_error": round(float(aligned.rotation.mean()), DIGITS),
    }


def _by_limit(measure: Any, errors: np.ndarray) -> dict[str, float]:
    return {str(limit): round(measure(errors, limit), DIGITS) for limit in accuracy.LIMITS_DEGREES}


LEGEND = (
    "Keypoints are means of an image, matches and verified matches means of a pair.",
    f"mAA is at {'/'.join(map(str, accuracy.LIMITS_DEGREES))} degrees: of poses from the matches "
    "of two images (stereo), and of the model's (model). Position errors are in the unit of the "
    "known poses. Seconds are those of extraction, matching, and verification with mapping.",
)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return rows of results in aligned columns, with reasons for the rows that did not run."""
    lines, notes = cells(rows)
    return "\n".join([tables.aligned(lines), *notes])


def markdown(results: Mapping[str, Any]) -> str:
    """Return the results as a Markdown page: the table, the reasons and the settings."""
    lines, notes = cells(results["rows"])
    shared = [f"- {key}: {value}" for key, value in results["settings"].items()]
    note = [*(f"{one}  " for one in notes), "", *LEGEND, "", "The same for all rows:", "", *shared]
    return tables.page("Comparison", lines, "\n".join(note))


def cells(rows: Mapping[str, Mapping[str, Any]]) -> tuple[list[list[str]], list[str]]:
    """Return the table's cells, a heading first, without empty columns; and the notes."""
    heading = ["row", *(title for title, _ in _COLUMNS)]
    lines: list[list[str]] = []
    notes: list[str] = []
    for name, row in rows.items():
        if "reason" in row:
            notes.append(f"[{len(notes) + 1}] {name}: {row['reason']}")
            lines.append([name, f"not run [{len(notes)}]", *[""] * (len(_COLUMNS) - 1)])
            continue
        lines.append([name, *(cell(row) for _, cell in _COLUMNS)])
        if "note" in row:
            notes.append(f"[{len(notes) + 1}] {name}: {row['note']}")
            lines[-1][0] += f" [{len(notes)}]"
    filled = [i for i in range(len(heading)) if i < 2 or any(line[i] for line in lines)]
    return [[line[i] for i in filled] for line in [heading, *lines]], notes


def _figure(key: str, form: str) -> Any:
    def cell(row: Mapping[str, Any]) -> str:
        value = row["figures"].get(key)
        return "" if value is None else format(value, form)

    return cell


def _limits(key: str) -> Any:
    def cell(row: Mapping[str, Any]) -> str:
        return "/".join(f"{value:.3f}" for value in row["figures"].get(key, {}).values())

    return cell


def _registered(row: Mapping[str, Any]) -> str:
    return f"{row['figures']['registered']}/{row['figures']['images']}"


def _seconds(row: Mapping[str, Any]) -> str:
    return "/".join("?" if value is None else f"{value:.1f}" for value in row["seconds"].values())


_COLUMNS = [
    ("keypoints", _figure("keypoints", ".0f")),
    ("matches", _figure("matches", ".0f")),
    ("verified", _figure("verified", ".0f")),
    ("inliers", _figure("inlier_ratio", ".1%")),
    ("registered", _registered),
    ("points", _figure("points3D", "d")),
    ("track", _figure("mean_track_length", ".2f")),
    ("error px", _figure("mean_reprojection_error", ".3f")),
    ("stereo mAA", _limits("stereo_maa")),
    ("model mAA", _limits("model_maa")),
    ("position", _figure("position_error", ".4f")),
    ("rotation deg", _figure("rotation_error", ".3f")),
    ("seconds", _seconds),
]
