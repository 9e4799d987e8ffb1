"""Compare a COLMAP model with known poses: from files to figures and curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.colmap import read_model, registered_images
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.report import plots, tables

from .model import pose_errors, summarize

NOTE = (
    "Points, observations, track length and reprojection error are the figures of the ETH local "
    "feature benchmark (Schoenberger, Hardmeier, Sattler, Pollefeys, CVPR 2017). Errors of poses "
    "are those after the similarity that best aligns the camera centres: positions in the unit of "
    "the known poses, rotations in degrees."
)


def main(model_dir: Path, output: Path, *, poses: Path | None = None) -> dict[str, Any]:
    """Write the figures of a model, and the errors of its poses if known poses are given.

    Args:
        model_dir: the folder of a COLMAP model.
        output: the folder for ``results.json``, ``results.md`` and, with poses, ``results.png``
            and ``results.svg``.
        poses: a poses file (:mod:`disk_hloc.io.hloc.poses`).

    Returns:
        What ``results.json`` holds: ``figures`` of :func:`disk_hloc.eval.model.summarize`, where
        ``images`` are those with a known pose, or the registered ones without ``poses``; with
        poses, ``position_error`` and ``rotation_error`` (mean, median, max), and in ``errors`` a
        list of ``[name, position, rotation]``, None for an image that is not registered.

    Raises:
        DiskHlocError: there is no model, there are no poses, or fewer than three images have both.
    """
    model = read_model(model_dir)
    if poses is None:
        results: dict[str, Any] = {"figures": summarize(model, model.num_reg_images())}
        tables.write(output, "Model", results, table(results["figures"]), NOTE)
        return results
    truth = read_poses(poses)
    names = {image.name for image in registered_images(model)}
    if not names & set(truth):
        raise DiskHlocError(
            f"{poses} has no pose of an image in {model_dir}; its images are named "
            f"{listing(sorted(names))}"
        )
    errors = pose_errors(model, truth)
    figures = {
        **summarize(model, len(truth)),
        # Of those with a known pose, not of all.
        "registered": len(errors.names),
        "position_error": _spread(errors.position, 6),
        "rotation_error": _spread(errors.rotation, 4),
    }
    listed: list[list[Any]] = [
        [name, round(float(position), 6), round(float(rotation), 4)]
        for name, position, rotation in zip(
            errors.names, errors.position, errors.rotation, strict=True
        )
    ]
    listed += [[name, None, None] for name in errors.missing]
    results = {"figures": figures, "errors": listed}
    tables.write(output, "Model", results, table(figures), NOTE)
    panels = {
        "position (unit of the known poses)": {"model": _curve(errors.position, len(truth))},
        "rotation (degrees)": {"model": _curve(errors.rotation, len(truth))},
    }
    plots.plot(output, panels, "error", "share of images")
    return results


def table(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table, a heading first."""
    lines = [
        ["registered", f"{figures['registered']} of {figures['images']}"],
        ["points", str(figures["points3D"])],
        ["observations", str(figures["observations"])],
        ["mean track length", f"{figures['mean_track_length']:.3f}"],
        ["mean reprojection error, px", f"{figures['mean_reprojection_error']:.3f}"],
    ]
    for key, title in (("position_error", "position"), ("rotation_error", "rotation, degrees")):
        lines += [[f"{title}, {kind}", f"{one:.4f}"] for kind, one in figures.get(key, {}).items()]
    return [["figure", "value"], *lines]


def _spread(errors: np.ndarray, digits: int) -> dict[str, float]:
    return {
        "mean": round(float(errors.mean()), digits),
        "median": round(float(np.median(errors)), digits),
        "max": round(float(errors.max()), digits),
    }


def _curve(errors: np.ndarray, count: int) -> plots.Curve:
    """Return the share of ``count`` images with errors up to x, which steps at each error."""
    x = np.repeat(np.sort(errors), 2)
    y = np.repeat(np.arange(len(errors) + 1), 2)[1:-1] / count
    return [0.0, *x.tolist()], [0.0, *y.tolist()], True
