"""How far localized queries are from known poses, as visuallocalization.net reports it.

Sattler et al., "Benchmarking 6DOF outdoor visual localization in changing conditions", CVPR 2018,
section 5: the share of queries within a distance and an angle, for three such pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose, rotation_angle

# Metres and degrees.
THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
# A query belongs to a condition if a folder in its name contains the word.
_CONDITIONS = ("day", "night")


def evaluate(poses: Mapping[str, Pose], truth: Mapping[str, Pose]) -> dict[str, dict[str, Any]]:
    """Return the figures of all queries, and of those by day and by night if names say so.

    Args:
        poses: query name -> estimated pose; a query without a pose has infinite errors.
        truth: query name -> known pose.

    Returns:
        ``all``, ``day``, ``night`` -> ``queries``, ``localized``, ``recall`` (a share for each of
        :data:`THRESHOLDS`), ``median_position`` (metres), ``median_rotation`` (degrees), both over
        all queries, None if half of them have no pose.

    Raises:
        DiskHlocError: no pose is known.
    """
    if not truth:
        raise DiskHlocError("there are no known poses to compare with")
    errors = {name: errors_of(poses.get(name), known) for name, known in truth.items()}
    groups = {"all": list(errors)}
    for condition in _CONDITIONS:
        names = [name for name in errors if condition in name.lower().split("/")[:-1]]
        if names:
            groups[condition] = names
    return {group: _figures([errors[name] for name in names]) for group, names in groups.items()}


def errors_of(pose: Pose | None, truth: Pose) -> tuple[float, float]:
    """Return the distance of the centres in metres and the angle of the rotations in degrees."""
    if pose is None:
        return float("inf"), float("inf")
    position = float(np.linalg.norm(pose.center - truth.center))
    return position, rotation_angle(pose.rotation @ truth.rotation.T)


def text(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as text, with a line for each group of queries."""
    limits = " / ".join(f"({metres:g} m, {degrees:g} deg)" for metres, degrees in THRESHOLDS)
    lines = [f"Recall at {limits}"]
    for group, figure in figures.items():
        recall = " / ".join(f"{100 * share:.1f}" for share in figure["recall"])
        line = f"{group:5} {figure['localized']} of {figure['queries']} localized: {recall} %"
        if figure["median_position"] is not None:
            line += (
                f", median errors {figure['median_position']:.4f} m, "
                f"{figure['median_rotation']:.3f} deg"
            )
        lines.append(line)
    return "\n".join(lines)


def _figures(errors: list[tuple[float, float]]) -> dict[str, Any]:
    position, rotation = np.array(errors).T
    medians = [float(np.median(values)) for values in (position, rotation)]
    return {
        "queries": len(errors),
        "localized": int(np.isfinite(position).sum()),
        "recall": [
            float(((position <= metres) & (rotation <= degrees)).mean())
            for metres, degrees in THRESHOLDS
        ],
        "median_position": medians[0] if np.isfinite(medians[0]) else None,
        "median_rotation": medians[1] if np.isfinite(medians[1]) else None,
    }
