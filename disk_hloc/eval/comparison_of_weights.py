"""Whether fine-tuning on some photos helped on others: which are held out, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import cameras_of, poses_of, read_model, read_verified
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.log import logger

from . import epipolar, stereo
from .accuracy import LIMITS_DEGREES, mean_accuracy
from .model import pose_errors
from .reference import Reference

# A correct match is within these distances of its epipolar line, in pixels of the photo.
THRESHOLDS_PX = (1.0, 3.0)
GROUPS = {
    "unseen": "both photos held out",
    "half unseen": "one photo held out",
    "trained on": "both photos trained on",
}
ROWS = ("before", "after")


def held_out_images(names: Sequence[str], share: float, tuple_size: int) -> list[str]:
    """Return the photos to hold out, at least two, spread evenly over the names.

    Args:
        names: all photos of the model.
        share: how many to hold out, 0 to 1.
        tuple_size: photos of a training tuple; at least this many are not held out.

    Raises:
        DiskHlocError: an impossible share, or too few photos are left to train on.
    """
    if not 0 < share < 1:
        raise DiskHlocError(f"a share of {share} of the photos cannot be held out: 0.35 is usual")
    count = max(2, round(share * len(names)))
    if len(names) - count < tuple_size:
        raise DiskHlocError(
            f"with {count} of {len(names)} photos held out there is no tuple of {tuple_size} to "
            "train on: more photos of the model, a smaller share or smaller tuples are needed"
        )
    return [names[int((i + 0.5) * len(names) / count)] for i in range(count)]


def judged_by(reference: Reference) -> str:
    """Return what matches are compared with, in words."""
    return "known poses" if reference.poses else "the poses of the model before"


def compare(
    output: Path,
    held_out: Sequence[str],
    reference: Reference,
    model: pycolmap.Reconstruction,
) -> dict[str, Any]:
    """Compare the matches and models before and after the training.

    Args:
        output: the folder with a folder of features, matches and model for each of :data:`ROWS`.
        held_out: the photos that were not trained on.
        reference: known poses and cameras. Without known poses, matches are compared with those
            of ``model``; likewise cameras.
        model: the model before.

    Returns:
        ``groups``: a name of :data:`GROUPS` -> ``pairs``, how many; for ``before`` and ``after``
        the figures of :func:`pair_figures`; and ``better``, in how many pairs the share of right
        matches rose, stayed and fell. ``models``: the figures of both (:func:`model_figures`).
    """
    if not reference.poses:
        logger.warning("No --poses: both weights are compared with the model of the old ones")
    cameras = reference.known_cameras() or cameras_of(model)
    poses = reference.poses or poses_of(model)
    groups: dict[str, Any] = {}
    for group, pairs in _grouped(sorted(poses), held_out).items():
        found = {row: _figures_of(output / row, pairs, cameras, poses) for row in ROWS}
        before, after = (found[row].pop("shares") for row in ROWS)
        better = {
            "rose": int((after > before).sum()),
            "stayed": int((after == before).sum()),
            "fell": int((after < before).sum()),
        }
        groups[group] = {"pairs": len(pairs), **found, "better": better}
    models = {row: model_figures(output / row, reference.poses) for row in ROWS}
    return {"groups": groups, "models": models}


def pair_figures(
    errors: Sequence[np.ndarray], verified: Sequence[int], pose_errors: np.ndarray
) -> dict[str, Any]:
    """Return the figures of pairs.

    Args:
        errors: for each pair (K,) distances of its matches from their epipolar lines, pixels.
        verified: how many matches of each pair COLMAP verified.
        pose_errors: (P,) errors of the relative poses from the matches, degrees.

    Returns:
        ``matches`` and ``verified``, means of a pair; ``precision``: by threshold in pixels, the
        share of all matches within it (None without matches); ``right``: matches of a pair within
        the first threshold; ``maa`` by limit in degrees; ``shares``: (P,) share of each pair's
        matches within the first threshold.
    """
    pooled = np.concatenate([*errors, np.zeros(0)])
    count = max(1, len(errors))
    first = THRESHOLDS_PX[0]
    return {
        "matches": round(len(pooled) / count, 2),
        "verified": round(sum(verified) / count, 2),
        "right": round(float((pooled < first).sum()) / count, 2),
        "precision": {
            f"{limit:g}": round(float((pooled < limit).mean()), 4) if len(pooled) else None
            for limit in THRESHOLDS_PX
        },
        "maa": {
            str(limit): round(mean_accuracy(pose_errors, limit), 4) for limit in LIMITS_DEGREES
        },
        "shares": np.array([(one < first).mean() if len(one) else 0.0 for one in errors]),
    }


def model_figures(folder: Path, known_poses: Mapping[str, Pose]) -> dict[str, Any]:
    """Return the figures of a model.

    Args:
        folder: the folder of a reconstruction (:func:`disk_hloc.pipelines.sfm.main`).
        known_poses: image name -> known pose; may be empty.

    Returns:
        Those of :func:`disk_hloc.eval.model.summarize`, and with known poses of at least three
        registered photos ``mean_position_error`` (unit of the known poses) and
        ``mean_rotation_error`` (degrees).
    """
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    keys = ("images", "registered", "points3D", "observations", "mean_track_length")
    figures = {key: summary[key] for key in (*keys, "mean_reprojection_error")}
    if known_poses:
        try:
            errors = pose_errors(read_model(folder / "sfm"), known_poses)
        except DiskHlocError as error:
            logger.warning("%s: %s", folder, error)
            return figures
        figures["mean_position_error"] = round(float(errors.position.mean()), 6)
        figures["mean_rotation_error"] = round(float(errors.rotation.mean()), 4)
    return figures


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table of pairs, a heading first."""
    heading = ["pairs", "", "weights", "matches", "verified", "right"]
    heading += [f"within {limit:g} px" for limit in THRESHOLDS_PX] + ["mAA 5/10"]
    lines = [heading]
    for group, found in results["groups"].items():
        for row in ROWS:
            figures = found[row]
            lines.append(
                [
                    group,
                    str(found["pairs"]),
                    row,
                    f"{figures['matches']:.1f}",
                    f"{figures['verified']:.1f}",
                    f"{figures['right']:.1f}",
                    *(_percent(figures["precision"][f"{limit:g}"]) for limit in THRESHOLDS_PX),
                    "/".join(f"{figures['maa'][str(limit)]:.3f}" for limit in (5, 10)),
                ]
            )
    return lines


def model_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table of both models, a heading first."""
    models = results["models"]
    keys = [key for key in models["before"] if models["before"][key] is not None]
    return [
        ["model", *ROWS],
        *([key.replace("_", " "), *(str(models[row].get(key)) for row in ROWS)] for key in keys),
    ]


def note(judged_by: str) -> str:
    """Return what a reader of the table of pairs must know.

    Args:
        judged_by: what the matches are compared with, in words.
    """
    groups = "; ".join(f"{name}: {meaning}" for name, meaning in GROUPS.items())
    return (
        f"Pairs are grouped: {groups}. Matches, verified matches (by COLMAP) and right matches "
        f"(within {THRESHOLDS_PX[0]:g} px) are means of a pair. The distance of a match is the "
        f"greater of those from its two epipolar lines, by {judged_by}. mAA is that of the "
        "relative poses from the matches, at 5 and 10 degrees. Held-out photos were not trained "
        "on, but the model that was trained on has points of theirs."
    )


def _figures_of(
    folder: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera],
    poses: Mapping[str, Pose],
) -> dict[str, Any]:
    features, matches = folder / "features.h5", folder / "matches.h5"
    errors = epipolar.match_errors(features, matches, pairs, cameras, poses)
    found = read_verified(folder / "sfm" / "database.db")
    counts = [len(found.get((a, b), ())) + len(found.get((b, a), ())) for a, b in pairs]
    return pair_figures(
        errors, counts, stereo.pair_errors(features, matches, pairs, cameras, poses)
    )


def _grouped(names: Sequence[str], held_out: Sequence[str]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {group: [] for group in GROUPS}
    for pair in combinations(names, 2):
        count = sum(name in held_out for name in pair)
        groups[{2: "unseen", 1: "half unseen", 0: "trained on"}[count]].append(pair)
    return {group: pairs for group, pairs in groups.items() if pairs}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
