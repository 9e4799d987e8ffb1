"""The page of a reconstruction: one file that opens offline, ``report.html``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.exif import read_exif
from disk_hloc.io.masks import Masks
from disk_hloc.io.store import CONF_ATTRIBUTE, reading
from disk_hloc.io.store.hdf5 import text_attribute
from disk_hloc.report.figure import figure

from . import photos as photo_part
from . import rendering
from .pairs import MatchGraph

# Of the largest model: fewer points of a photo, on average, are few.
_FEW_POINTS = 100
# A photo is far off from this many median distances on.
_FAR = 10.0
# Focal lengths in multiples of the longer side, from a fisheye to a long tele lens.
_FOCAL_LENGTHS = (0.35, 6.0)
# EXIF and the model disagree from this factor on.
_FACTOR = 1.5


def write(
    output: Path,
    sfm_dir: Path,
    image_dir: Path,
    *,
    masks: Mapping[str, Any] | None = None,
    command: str = "",
) -> Path:
    """Write the report of a reconstruction.

    Args:
        output: the folder of a pipeline, which gets ``report.html``; with ``features.h5``,
            ``matches.h5`` and ``summary.json`` if it has them.
        sfm_dir: the models and their database.
        image_dir: the photos; those that are missing are shown without a picture.
        masks: of the photos (:data:`disk_hloc.io.masks.DEFAULT_CONF`); what they hide is tinted.
        command: the command that made the folder.

    Returns:
        The page.

    Raises:
        DiskHlocError: there is no model with its database.
    """
    summary = _read_summary(output)
    models = colmap.read_models(sfm_dir)
    database_path = sfm_dir / colmap.DATABASE
    if not models or not database_path.is_file():
        raise DiskHlocError(f"{sfm_dir} has no model with its {colmap.DATABASE} to report")
    for model in models:
        colmap.update_errors(model)
    graph = MatchGraph(database_path)
    missing = summary.get("missing", {})
    names = sorted({*graph.names, *missing})
    table = photo_part.rows(names, models, graph.counts(), missing)
    content = {
        "photos": _photos(names, models, image_dir, masks),
        "table": table,
        "matrix": graph.matrix(names),
        "pairs": graph.chosen(names),
        "scenes": [json.loads(figure(model).to_json()) for model in models],
        "registered": [[names.index(image.name) for image in _by_name(model)] for model in models],
        "histograms": _histograms(models[0]),
        "error_scale": photo_part.ERROR_SCALE,
    }
    return rendering.write(
        output,
        "model.html",
        content,
        kind="reconstruction",
        warnings=list(_warnings(models, names, missing, image_dir)),
        figures=_figures(summary),
        seconds=summary.get("seconds", {}),
        confs=_confs(output),
        command=command,
    )


def _read_summary(output: Path) -> dict[str, Any]:
    path = output / "summary.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except PARSER_ERRORS as error:
        raise DiskHlocError(f"{path} is broken: {' '.join(str(error).split())}") from error


def _by_name(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return sorted(colmap.registered_images(model), key=lambda image: image.name)


def _photos(
    names: Sequence[str],
    models: Sequence[pycolmap.Reconstruction],
    image_dir: Path,
    masks: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """Return the picture and the keypoints of each photo."""
    side = photo_part.picture_side(len(names))
    sources = None if masks is None else Masks(masks)
    model_of = colmap.model_of_photos(models)
    images = [{image.name: image for image in _by_name(model)} for model in models]

    def picture(name: str) -> dict[str, Any]:
        found = photo_part.picture(image_dir / name, side, sources, name)
        return {"name": name, "picture": found}

    shown = photo_part.keypoints_shown(len(names))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        made = list(threads.map(picture, names))
    for one in made:
        name = one["name"]
        if name in model_of:
            number = model_of[name]
            one["keypoints"] = photo_part.keypoints(models[number], images[number][name], shown)
    return made


def _histograms(model: pycolmap.Reconstruction) -> dict[str, dict[str, list[float]]]:
    """Return the bins of track lengths, reprojection errors and triangulation angles."""
    points = list(model.points3D.values())
    lengths = np.array([point.track.length() for point in points])
    errors = np.array([point.error for point in points])
    return {
        "Track length (photos)": _bins(lengths, np.arange(1.5, min(lengths.max(), 40) + 1)),
        "Reprojection error (px)": _bins(errors, np.linspace(0, 4, 41)),
        "Triangulation angle (degrees)": _bins(_angles(model, points), np.linspace(0, 90, 46)),
    }


def _bins(values: np.ndarray, edges: np.ndarray) -> dict[str, list[float]]:
    counts, edges = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {"x": ((edges[:-1] + edges[1:]) / 2).tolist(), "y": counts.tolist()}


def _angles(
    model: pycolmap.Reconstruction, points: Sequence[pycolmap.Point3D], at_most: int = 20_000
) -> np.ndarray:
    """Return the largest angle between the rays of points, in degrees, of a sample of them."""
    centers = {
        image.image_id: colmap.to_pose(colmap.cam_from_world(image)).center
        for image in colmap.registered_images(model)
    }
    found = []
    for point in points[:: -(-len(points) // at_most)]:
        rays = np.array([centers[e.image_id] for e in point.track.elements]) - point.xyz
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        found.append(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))
    return np.array(found)


def _warnings(
    models: Sequence[pycolmap.Reconstruction],
    names: Sequence[str],
    missing: Mapping[str, str],
    image_dir: Path,
) -> Iterable[str]:
    """Yield what a reader should know first."""
    model = models[0]
    if missing:
        yield f"{len(missing)} of {len(names)} photos are not in the model: the table says why."
    if len(models) > 1:
        sizes = ", ".join(str(len(colmap.seeing_points(one))) for one in models)
        yield f"The photos fall into {len(models)} models, of {sizes} photos."
    images = _by_name(model)
    if model.num_points3D() < _FEW_POINTS * len(images) / 2:
        yield f"The model has few points: {model.num_points3D()} of {len(images)} photos."
    centers = np.array([colmap.to_pose(colmap.cam_from_world(one)).center for one in images])
    distances = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    far = distances > _FAR * max(float(np.median(distances)), 1e-12)
    for image, distance in zip(images, distances / np.median(distances), strict=True):
        if far[images.index(image)]:
            yield f"{image.name} is far off: {distance:.0f} times as far as half of the photos."
    yield from _odd_focal_lengths(model, images, image_dir)


def _odd_focal_lengths(
    model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image], image_dir: Path
) -> Iterable[str]:
    seen: set[int] = set()
    for image in images:
        camera = model.cameras[image.camera_id]
        indices = camera.focal_length_idxs()
        if image.camera_id in seen or not len(indices):
            continue
        seen.add(image.camera_id)
        size = camera.width, camera.height
        focal_length = float(np.mean([camera.params[i] for i in indices]))
        ratio = focal_length / max(size)
        by_exif = read_exif(image_dir / image.name).focal_length_px(size)
        if not _FOCAL_LENGTHS[0] <= ratio <= _FOCAL_LENGTHS[1]:
            yield (
                f"The focal length of {image.name} is unlikely: {focal_length:.0f} px in a photo "
                f"of {max(size)} px."
            )
        elif by_exif and not 1 / _FACTOR <= focal_length / by_exif <= _FACTOR:
            yield (
                f"The focal length of {image.name} is {focal_length:.0f} px in the model and "
                f"{by_exif:.0f} px by its EXIF data."
            )


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("images", "registered", "points3D", "observations", "mean_track_length",
            "mean_reprojection_error", "engine")  # fmt: skip
    return {key.replace("_", " "): summary[key] for key in keys if key in summary}


def _confs(output: Path) -> dict[str, str]:
    """Return the confs that features and matches were made with, as text."""
    found = {}
    for name in ("features.h5", "matches.h5"):
        if (output / name).is_file():
            with reading(output / name) as file:
                text = text_attribute(file, CONF_ATTRIBUTE)
            if text:
                found[name] = json.dumps(json.loads(text), indent=2)
    return found
