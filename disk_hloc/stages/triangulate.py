"""From features and matches to points, with known poses."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
from packaging.version import Version
from tqdm import tqdm

from disk_hloc import plugin
from disk_hloc.choices import VERIFY
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.geometry import epipolar_errors, essential_matrix, relative_pose
from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated
from disk_hloc.io.hloc.features import (
    image_sizes,
    read_keypoints,
    require_features,
    require_image_sizes,
)
from disk_hloc.io.hloc.matches import read_matches, require_made_of, require_names_of_hloc
from disk_hloc.io.hloc.pairs import Pair, read_pairs
from disk_hloc.io.sizes import photo_sizes, require_same_sizes
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import find, number_attribute
from disk_hloc.log import logger
from disk_hloc.plugin import engine as engines

from . import coloring
from . import verify as verification

# Largest distance of a match from its epipolar lines by the known poses; that of hloc.
MAX_EPIPOLAR_ERROR_PX = 4.0
# COLMAP leaves the poses of frames alone, but not those of the cameras in their rigs.
_FIXED_RIGS: dict[str, Any] = (
    {"ba_refine_sensor_from_rig": False}
    if hasattr(pycolmap.IncrementalPipelineOptions(), "ba_refine_sensor_from_rig")
    else {}
)
_CALIBRATED = int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)


def main(
    sfm_dir: Path,
    reference_path: Path,
    image_dir: Path,
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    engine: str = "auto",
    verify: str = "poses",
    verbose: bool = False,
) -> pycolmap.Reconstruction:
    """Triangulate features in a model whose cameras and poses stay fixed.

    Writes the model and ``database.db`` to ``sfm_dir``; existing ones are replaced once the new
    ones are complete, so ``sfm_dir`` may be the reference. COLMAP runs in a process of its own.

    Args:
        sfm_dir: the folder to build in.
        reference_path: a COLMAP model with the cameras and poses; its points are not used.
        image_dir: the photos, for the points' colours.
        pairs_path: the pairs file, of images of the reference model.
        feature_path: the features file, with every image of the model.
        match_path: the matches file, with every pair.
        engine: ``auto``, ``hloc`` or ``native`` (:mod:`disk_hloc.plugin.engine`).
        verify: which matches are triangulated: those within 4 px of their epipolar lines by the
            known ``poses``, those that agree with a newly estimated geometry (``estimate``), or
            all of them (``none``).
        verbose: show COLMAP's own output.

    Returns:
        The model.

    Raises:
        DiskHlocError: a broken or incomplete file, an image that is not in the reference model, an
            unknown option, or no point could be triangulated.
    """
    if verify not in VERIFY:
        raise DiskHlocError(f"matches are verified by poses, estimate or none, not by {verify!r}")
    reference = colmap.read_model(reference_path)
    pairs = read_pairs(pairs_path)
    known = {image.name for image in reference.images.values()}
    unknown = sorted({name for pair in pairs for name in pair} - known)
    if unknown:
        raise DiskHlocError(
            f"{pairs_path} has {len(unknown)} images that are not in {reference_path}: "
            f"{listing(unknown)}"
        )
    require_features(feature_path, known, because=f"the model {reference_path} has")
    _require_sizes(reference, reference_path, image_dir, feature_path)
    require_made_of(match_path, (feature_path, feature_path), pairs)
    chosen = engines.choose(engine, "triangulate")
    if chosen == "hloc":
        require_names_of_hloc(known)
        if verify == "poses" and not all(map(colmap.is_planar, reference.cameras.values())):
            logger.warning(
                "hloc loses the matches that fisheyes and panoramas have far from their axis: "
                "use --engine native or --verify estimate"
            )
    with colmap.building(sfm_dir) as folder:
        isolated.call(
            _build,
            folder,
            reference_path,
            image_dir,
            (folder / colmap.DATABASE, pairs_path, feature_path, match_path),
            chosen,
            verify,
            verbose,
            task=f"triangulating the points of {sfm_dir}",
            log_dir=sfm_dir,
            verbose=verbose,
        )
    model = colmap.read_model(sfm_dir)
    logger.info(
        "%d points, %.2f observations each, %.3f px mean reprojection error",
        model.num_points3D(),
        model.compute_mean_track_length(),
        model.compute_mean_reprojection_error(),
    )
    return model


def _require_sizes(
    reference: pycolmap.Reconstruction, reference_path: Path, image_dir: Path, feature_path: Path
) -> None:
    """Check that cameras have the sizes of their images: of the features', else of the photos."""
    cameras = {
        image.name: reference.cameras[image.camera_id] for image in reference.images.values()
    }
    sizes = {name: (camera.width, camera.height) for name, camera in cameras.items()}
    source = f"the cameras of {reference_path}"
    require_image_sizes(feature_path, sizes, source)
    unknown = set(sizes).difference(image_sizes(feature_path, sizes))
    photos = f"the photos of {image_dir}"
    require_same_sizes(photo_sizes(image_dir, unknown), photos, sizes, source)


def _build(
    folder: Path,
    reference_path: Path,
    image_dir: Path,
    paths: tuple[Path, Path, Path, Path],
    engine: str,
    verify: str,
    verbose: bool,
) -> None:
    reference = colmap.read_model(reference_path)
    database_path, pairs_path, _, _ = paths
    names = [image.name for image in reference.images.values()]
    try:
        if engine == "hloc":
            with colmap.readable_photos(image_dir, names, folder) as photos:
                folders = (folder, reference_path, photos)
                model = _with_hloc(folders, reference, paths, verify, verbose)
        else:
            pairs = read_pairs(pairs_path)
            model = _natively(folder, image_dir, reference, pairs, paths, verify)
    except (ValueError, RuntimeError) as error:
        # COLMAP raises these for a database without a verified pair.
        if _count(database_path, "two_view_geometries"):
            raise
        raise DiskHlocError(_why_no_point(reference, verify, paths, reference_path)) from error
    if model.num_points3D() == 0:
        raise DiskHlocError(_why_no_point(reference, verify, paths, reference_path))
    colmap.write_model(model, folder)


def _natively(
    folder: Path,
    image_dir: Path,
    reference: pycolmap.Reconstruction,
    pairs: list[Pair],
    paths: tuple[Path, Path, Path, Path],
    verify: str,
) -> pycolmap.Reconstruction:
    database_path, _, feature_path, match_path = paths
    ids = colmap.create_database_of(database_path, reference)
    best_first = colmap.import_features_and_matches(
        database_path, ids, feature_path, pairs, match_path
    )
    if verify == "estimate":
        verification.main(database_path, pairs, best_first=best_first)
    else:
        _write_verified(paths, reference, ids, pairs, all_of_them=verify == "none")
    options = {
        "num_threads": colmap.num_threads(reference.num_reg_images()),
        "random_seed": colmap.SEED,
        "extract_colors": False,
        **_FIXED_RIGS,
    }
    model = pycolmap.triangulate_points(
        reference, database_path, image_dir, folder, options=options
    )
    coloring.main(model, image_dir)
    return model


def _write_verified(
    paths: tuple[Path, Path, Path, Path],
    reference: pycolmap.Reconstruction,
    ids: Mapping[str, int],
    pairs: list[Pair],
    all_of_them: bool,
) -> None:
    """Write the matches that agree with the known poses, as those of calibrated pairs."""
    database_path, _, feature_path, match_path = paths
    rays: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    ratios = []
    with (
        reading(feature_path) as features,
        reading(match_path) as stored,
        pycolmap.Database.open(database_path) as database,
        pycolmap.DatabaseTransaction(database),
    ):

        def rays_of(image: pycolmap.Image, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if image.name not in rays:
                keypoints = read_keypoints(features, image.name).astype(np.float64) + 0.5
                camera = reference.cameras[image.camera_id]
                rays[image.name] = colmap.bearings(camera, keypoints)
            found, changes = rays[image.name]
            return found[index], changes if len(changes) == 1 else changes[index]

        for pair in tqdm(pairs, desc="Verify", unit="pair"):
            matches = read_matches(stored, *pair)
            if matches is None or len(matches) == 0:
                continue
            if not all_of_them:
                images = [reference.images[ids[name]] for name in pair]
                poses = [colmap.to_pose(colmap.cam_from_world(image)) for image in images]
                errors = epipolar_errors(
                    *rays_of(images[0], matches[:, 0]),
                    *rays_of(images[1], matches[:, 1]),
                    essential_matrix(*relative_pose(*poses)),
                )
                limits = [
                    MAX_EPIPOLAR_ERROR_PX * _uncertainty(features, image.name) for image in images
                ]
                kept = (errors[0] <= limits[0]) & (errors[1] <= limits[1])
                ratios.append(kept.mean())
                matches = matches[kept]
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = matches.astype(np.uint32)
            database.write_two_view_geometry(ids[pair[0]], ids[pair[1]], geometry)
    if ratios:
        logger.info("%.1f %% of the matches agree with the known poses", 100 * np.mean(ratios))


def _uncertainty(features: h5py.File, name: str) -> float:
    """Return the uncertainty of an image's keypoints, in pixels; 1 if the file does not say."""
    keypoints = find(features, f"{name}/keypoints")
    assert keypoints is not None
    return number_attribute(keypoints, "uncertainty", 1.0)


def _with_hloc(
    folders: tuple[Path, Path, Path],
    reference: pycolmap.Reconstruction,
    paths: tuple[Path, Path, Path, Path],
    verify: str,
    verbose: bool,
) -> pycolmap.Reconstruction:
    """Triangulate by hloc; with pycolmap 4 step by step, since its ``main`` gives no points there.

    hloc writes verified pairs without their configuration, and COLMAP 4 ignores such pairs.
    """
    hloc = plugin.hloc_module("triangulation", needed_for="the hloc engine")
    sfm_dir, reference_path, image_dir = folders
    database_path, pairs_path, feature_path, match_path = paths
    options = {
        "skip_geometric_verification": verify == "none",
        "estimate_two_view_geometries": verify == "estimate",
        "verbose": verbose,
    }
    if Version(pycolmap.__version__) < Version("4"):
        return hloc.main(
            sfm_dir, reference_path, image_dir, pairs_path, feature_path, match_path,
            mapper_options=_FIXED_RIGS, **options,
        )  # fmt: skip
    ids = hloc.create_db_from_model(reference, database_path)
    with pycolmap.Database.open(database_path) as database:
        hloc.import_features(ids, database, feature_path)
        hloc.import_matches(
            ids, database, pairs_path, match_path, skip_geometric_verification=verify == "none"
        )
        if verify == "poses":
            hloc.geometric_verification(
                ids, reference, database, feature_path, pairs_path, match_path
            )
    if verify == "estimate":
        hloc.estimation_and_geometric_verification(database_path, pairs_path, verbose)
    else:
        with closing(sqlite3.connect(database_path)) as database, database:
            database.execute("UPDATE two_view_geometries SET config = ?", (_CALIBRATED,))
    return hloc.run_triangulation(
        sfm_dir, database_path, image_dir, reference, verbose, _FIXED_RIGS
    )


def _why_no_point(
    reference: pycolmap.Reconstruction,
    verify: str,
    paths: tuple[Path, Path, Path, Path],
    reference_path: Path,
) -> str:
    database_path, _, _, match_path = paths
    matches = _count(database_path, "matches")
    verified = _count(database_path, "two_view_geometries")
    centers = np.array([image.projection_center() for image in reference.images.values()])
    across = np.linalg.norm(np.ptp(centers, axis=0))
    if matches == 0:
        why = f"{match_path} has no matches of these pairs"
    elif across == 0:
        why = f"all cameras of {reference_path} are at one place"
    elif verified == 0 and verify == "estimate":
        why = f"none of the {matches} matches agrees with a geometry estimated of its pair"
    elif verified == 0:
        why = (
            f"none of the {matches} matches agrees with the poses of {reference_path}: is it a "
            "model of these photos?"
        )
    else:
        why = (
            f"of the {verified} verified matches COLMAP made no point that it sees under its least "
            f"angle, 1.5 degrees: the cameras of {reference_path} are within {across:.3g} of its "
            "units"
        )
    return f"no point was triangulated: {why}"


def _count(database_path: Path, table: str) -> int:
    """Return how many matches all pairs of a table have."""
    with closing(sqlite3.connect(database_path)) as database:
        (count,) = database.execute(f"SELECT COALESCE(SUM(rows), 0) FROM {table}").fetchone()
    return int(count)
