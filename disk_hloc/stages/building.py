"""What the native engine does in a process of its own: from features or a database to models.

The process imports this module, so it does not import what only hloc or clusters need.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from disk_hloc.errors import NoModel, listing
from disk_hloc.io import colmap
from disk_hloc.io.hloc.pairs import Pair, read_pairs
from disk_hloc.log import logger

from . import adjust, coloring, mapping, unfinished, verify
from .cluster_mapping import CLUSTER_SIZE, SHARED, Cluster

# Up to this many photos one model that grows is the fastest, or as fast (benchmarks/mapping.py).
INCREMENTAL_UP_TO = 200
# Kept until a model is complete: clusters that are mapped, and their logs.
CLUSTERS = "clusters"
CLUSTER_LOGS = "clusters.LOG"


@dataclass(frozen=True)
class Job:
    """What a model is built of and how.

    Attributes:
        sfm_dir: where the model goes, and what is kept until it is complete.
        image_dir: the photos.
        fix_intrinsics: keep the cameras' parameters.
        mapper, robust: as of :func:`disk_hloc.stages.reconstruct.main`.
    """

    sfm_dir: Path
    image_dir: Path
    fix_intrinsics: bool
    mapper: str
    robust: bool


@dataclass(frozen=True)
class Apart:
    """Clusters that are still to be mapped and joined, and how many pairs there are."""

    found: list[Cluster]
    num_pairs: int


def from_features(
    job: Job,
    folder: Path,
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    camera_mode: str,
    camera: str | None,
    cameras: Mapping[str, str] | None,
) -> Apart | None:
    """Build models of features and matches.

    Args:
        job: what to build.
        folder: gets the models and the database.
        pairs_path, feature_path, match_path: the files.
        camera_mode, camera, cameras: see :func:`disk_hloc.stages.reconstruct.main`.

    Returns:
        The clusters, if the photos are to be mapped in clusters; the models are not built then.

    Raises:
        NoModel: too few matches agree geometrically.
    """
    pairs = read_pairs(pairs_path)
    names = sorted({name for pair in pairs for name in pair})
    database_path = folder / colmap.DATABASE
    ids = colmap.create_database(database_path, job.image_dir, names, camera_mode, camera, cameras)
    best_first = colmap.import_features_and_matches(
        database_path, ids, feature_path, pairs, match_path
    )
    found = _map_verified(job, folder, pairs, best_first=best_first)
    return _finished(job, folder, found, len(pairs))


def from_database(job: Job, folder: Path, database_path: Path) -> Apart | None:
    """Build models of a database; see :func:`from_features`."""
    _, pairs = colmap.read_images_and_pairs(database_path)
    copy = folder / colmap.DATABASE
    colmap.copy_database(database_path, copy)
    with colmap.database_errors(database_path):
        found = _map_verified(job, folder, pairs, best_first=False)
    return _finished(job, folder, found, len(pairs))


def _map_verified(
    job: Job, folder: Path, pairs: Sequence[Pair], *, best_first: bool
) -> Apart | list[pycolmap.Reconstruction]:
    clusters = _verify_and_divide(job, folder, pairs, best_first=best_first)
    return Apart(clusters, len(pairs)) if clusters else _map(job, folder)


def _finished(
    job: Job, folder: Path, found: Apart | list[pycolmap.Reconstruction], num_pairs: int
) -> Apart | None:
    if isinstance(found, Apart):
        return found
    finish(job, folder, found, num_pairs)
    return None


def _verify_and_divide(
    job: Job, folder: Path, pairs: Sequence[Pair], *, best_first: bool
) -> list[Cluster]:
    """Verify the pairs; return the clusters to map apart, none if the mapper is another one."""
    database_path = folder / colmap.DATABASE
    many = len({name for pair in pairs for name in pair}) > INCREMENTAL_UP_TO
    if job.mapper != "hierarchical" and (job.mapper != "auto" or not many):
        verify.main(database_path, pairs, best_first=best_first)
        return []
    place = unfinished.place(
        job.sfm_dir / CLUSTERS,
        database_path,
        best_first=best_first,
        fix_intrinsics=job.fix_intrinsics,
        clusters=[CLUSTER_SIZE, SHARED],
    )
    if unfinished.restore(place, database_path):
        logger.info("Resuming: the pairs are verified already")
    else:
        verify.main(database_path, pairs, best_first=best_first)
        unfinished.keep(place, database_path)
    if job.mapper == "auto" and mapping.num_connected_images(database_path) <= INCREMENTAL_UP_TO:
        return []
    from . import hierarchical  # imports scipy, which takes as long as pycolmap

    return hierarchical.divide(
        place / colmap.DATABASE,
        place,
        job.sfm_dir / CLUSTER_LOGS,
        fix_intrinsics=job.fix_intrinsics,
    )


def _map(job: Job, folder: Path) -> list[pycolmap.Reconstruction]:
    """Run a mapper and return its models, the largest first."""
    database_path, fixed = folder / colmap.DATABASE, job.fix_intrinsics
    with tempfile.TemporaryDirectory(dir=folder) as attempts:
        place = Path(attempts)
        if job.mapper == "global":
            return mapping.globally(database_path, job.image_dir, place, fix_intrinsics=fixed)
        return mapping.incremental(database_path, place, fix_intrinsics=fixed)


def finish(
    job: Job, folder: Path, models: Sequence[pycolmap.Reconstruction | None], num_pairs: int
) -> None:
    """Write the mapped models, adjusted if they are to be; without one, raise the reason."""
    found = mapping.largest_first([model for model in models if model is not None])
    if not found:
        database_path = folder / colmap.DATABASE
        raise _no_model(database_path, mapping.num_verified_pairs(database_path), num_pairs)
    write_models(found, job.image_dir, folder, fix_intrinsics=job.fix_intrinsics, robust=job.robust)


def write_models(
    models: Sequence[pycolmap.Reconstruction],
    image_dir: Path,
    folder: Path,
    *,
    fix_intrinsics: bool,
    robust: bool,
) -> None:
    """Write the largest model to a folder, and if there are several, all of them below it.

    Args:
        models: the largest first. Points that are black get the colours of photos.
        image_dir: the photos.
        folder: gets the first; ``0/``, ``1/``, ... get all, where there is more than one.
        fix_intrinsics: keep the cameras' parameters.
        robust: adjust the models robustly before.
    """
    for number, model in enumerate(models):
        if robust:
            adjust.main(model, fix_intrinsics=fix_intrinsics)
        coloring.main(model, image_dir)
        if number == 0:
            colmap.write_model(model, folder)
        if len(models) > 1:
            numbered = folder / str(number)
            numbered.mkdir()
            colmap.write_model(model, numbered)
    if len(models) > 1:
        sizes = ", ".join(str(model.num_reg_images()) for model in models)
        logger.warning(
            "%d models that share too little to be one, of %s photos", len(models), sizes
        )


def _no_model(database_path: Path, num_verified: int, num_pairs: int) -> NoModel:
    points = " and not one point could be triangulated" if num_verified else ""
    return NoModel(
        f"no model could be built: {num_verified} of {num_pairs} pairs agree geometrically{points};"
        f" {_advice(database_path, num_verified)}"
    )


def _advice(database_path: Path, num_verified: int) -> str:
    """Return what to change so that a model can be built."""
    # By SQL: pycolmap's interface to databases differs between its versions.
    query = "SELECT DISTINCT model FROM cameras WHERE NOT prior_focal_length"
    with closing(sqlite3.connect(database_path)) as database:
        models = [pycolmap.CameraModelId(model).name for (model,) in database.execute(query)]
    cameras = {
        model: pycolmap.Camera(model=model, width=2, height=2, params=[]) for model in models
    }
    guessed = [
        model
        for model, camera in cameras.items()
        if not colmap.is_planar(camera) and camera.focal_length_idxs()
    ]
    if guessed:
        return (
            f"the focal length of {listing(sorted(guessed))} was guessed as of a lens without "
            "fisheye: give the camera's parameters"
        )
    if num_verified:
        return "the photos may be taken from one place, or the focal length be wrong"
    return "the photos need more overlap, or other pairs or features"
