"""From features and matches to a COLMAP model, by structure from motion."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pycolmap

from disk_hloc import plugin
from disk_hloc.choices import MAPPERS
from disk_hloc.errors import DiskHlocError, NoModel, listing
from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated
from disk_hloc.io.hloc.features import require_features, require_image_sizes
from disk_hloc.io.hloc.matches import require_made_of, require_names_of_hloc
from disk_hloc.io.hloc.pairs import read_pairs, write_pairs
from disk_hloc.io.sizes import photo_sizes, require_same_sizes, require_shared_cameras
from disk_hloc.io.text import require_listable
from disk_hloc.log import logger
from disk_hloc.plugin import engine as engines

from . import building, cluster_mapping, hierarchical, mapping, verify
from .building import Apart, Job
from .cluster_mapping import Spread, in_processes

T = TypeVar("T")


def main(
    sfm_dir: Path,
    image_dir: Path,
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    engine: str = "auto",
    camera_mode: str = "auto",
    camera: str | None = None,
    cameras: Mapping[str, str] | None = None,
    fix_intrinsics: bool = False,
    mapper: str = "auto",
    robust: bool = True,
    verbose: bool = False,
    spread: Spread = in_processes,
) -> pycolmap.Reconstruction:
    """Build a model of the images that the pairs name.

    Writes to ``sfm_dir`` the largest model, as hloc does, ``database.db``, COLMAP's log and, if
    there are several models, all of them in ``0/``, ``1/``, ..., the largest first. An existing
    model is replaced once the new one is complete. COLMAP runs in a process of its own. The native
    engine returns the same model each time (:mod:`disk_hloc.io.colmap.determinism`).

    Args:
        sfm_dir: the folder to build in.
        image_dir: the photos.
        pairs_path: the pairs file.
        feature_path: the features file, with every image of the pairs.
        match_path: the matches file, with every pair.
        engine: ``auto``, ``hloc`` or ``native`` (:mod:`disk_hloc.plugin.engine`).
        camera_mode: which images share a camera: ``auto`` (by EXIF), ``single``, ``per-folder``,
            ``per-image``.
        camera: COLMAP's model and parameters in pixels, as ``"PINHOLE fx,fy,cx,cy"``. All images
            then share one camera, unless ``camera_mode`` is given.
        cameras: image name -> such a camera, its own for every image; native only.
        fix_intrinsics: keep the given parameters of the cameras.
        mapper: ``incremental``, ``hierarchical`` (:mod:`disk_hloc.stages.hierarchical`),
            ``global``, or ``auto``: incremental up to
            :data:`disk_hloc.stages.building.INCREMENTAL_UP_TO` photos, then hierarchical.
        robust: adjust the largest model once more, robustly (:mod:`disk_hloc.stages.adjust`).
            Always where the mapper is ``hierarchical``.
        verbose: show COLMAP's own output.
        spread: maps the clusters of the hierarchical mapper.

    Returns:
        The largest model.

    Raises:
        NoModel: too few matches agree geometrically.
        DiskHlocError: a broken or incomplete file, an unknown option, or no space.
    """
    pairs = read_pairs(pairs_path)
    names = sorted({name for pair in pairs for name in pair})
    require_features(feature_path, names, because=f"{pairs_path} names")
    require_made_of(match_path, (feature_path, feature_path), pairs)
    photos = f"the photos of {image_dir}"
    require_image_sizes(feature_path, photo_sizes(image_dir, names), photos)
    if cameras is not None:
        if engine == "hloc":
            raise DiskHlocError("hloc takes one camera for all images: use --engine native")
        engine = "native"
        without = [name for name in names if name not in cameras]
        if without:
            raise DiskHlocError(f"no camera is given for {listing(without)}")
    engine = check_options(engine, camera_mode, camera, mapper, image_dir, names)
    camera_mode = _sharing(camera_mode, camera)
    if fix_intrinsics and camera is None and cameras is None:
        logger.warning(
            "Intrinsics are fixed at what EXIF or COLMAP's guess says: no --camera is given"
        )
    job = Job(sfm_dir, image_dir, fix_intrinsics, mapper, robust)
    files = pairs_path, feature_path, match_path
    if engine == "hloc":
        _run(job, spread, verbose, _build_with_hloc, *files, camera_mode, camera, verbose)
    else:
        _run(job, spread, verbose, building.from_features, *files, camera_mode, camera, cameras)
    return colmap.read_model(sfm_dir)


def from_database(
    sfm_dir: Path,
    image_dir: Path,
    database_path: Path,
    *,
    fix_intrinsics: bool = False,
    mapper: str = "auto",
    robust: bool = True,
    verbose: bool = False,
    spread: Spread = in_processes,
) -> pycolmap.Reconstruction:
    """Verify the matches of a COLMAP database and build a model from it, by the native engine.

    Writes to ``sfm_dir`` what :func:`main` writes there; ``database.db`` is a copy.

    Args:
        sfm_dir: the folder to build in.
        image_dir: the photos, by the names that the database has.
        database_path: a COLMAP database with cameras, keypoints and matches; it is not changed.
        fix_intrinsics, mapper, robust, verbose, spread: see :func:`main`.

    Returns:
        The largest model.

    Raises:
        DiskHlocError: not a COLMAP database, no matches in it, photos are missing, or no model
            could be built.
    """
    check_options("native", "auto", None, mapper, image_dir, ())
    colmap.require_sound_database(database_path)
    names, _ = colmap.read_images_and_pairs(database_path)
    missing = [name for name in names if not (image_dir / name).is_file()]
    if missing:
        raise DiskHlocError(
            f"photos of {database_path} are missing from {image_dir}: {listing(missing)}"
        )
    require_same_sizes(
        photo_sizes(image_dir, names), f"the photos of {image_dir}",
        colmap.read_sizes(database_path), f"the cameras of {database_path}",
    )  # fmt: skip
    copy = sfm_dir / colmap.DATABASE
    if copy.exists() and copy.samefile(database_path):
        raise DiskHlocError(
            f"{database_path} would be replaced by its own copy: use another folder"
        )
    job = Job(sfm_dir, image_dir, fix_intrinsics, mapper, robust)
    _run(job, spread, verbose, building.from_database, database_path)
    return colmap.read_model(sfm_dir)


def check_options(
    engine: str,
    camera_mode: str,
    camera: str | None,
    mapper: str,
    image_dir: Path,
    names: Collection[str],
) -> str:
    """Check the options, so that a pipeline can do so before it spends an hour.

    Args:
        engine, camera_mode, camera, mapper, image_dir: as of :func:`main`.
        names: the images; hloc cannot read all names.

    Returns:
        The engine to use, ``hloc`` or ``native``.

    Raises:
        DiskHlocError: an unknown option, or one that does not work here.
    """
    require_listable(names)
    colmap.camera_mode(camera_mode)
    colmap.image_reader_options(camera)
    require_shared_cameras(image_dir, names, _sharing(camera_mode, camera))
    if mapper not in MAPPERS:
        raise DiskHlocError(f"no mapper is called {mapper!r}; known: {', '.join(MAPPERS)}")
    if mapper == "auto":
        many = engine == "auto" and len(names) > building.INCREMENTAL_UP_TO
        mapper = "hierarchical" if many else "incremental"
    if mapper == "incremental":
        engine = engines.choose(engine, "reconstruct")
        if engine == "hloc":
            require_names_of_hloc(names)
        return engine
    if engine == "hloc":
        raise DiskHlocError(f"hloc has no {mapper} mapper: use --engine native")
    if mapper == "global" and not hasattr(pycolmap, "global_mapping"):
        raise DiskHlocError(
            f"pycolmap {pycolmap.__version__} has no global mapper: upgrade to 4 or newer"
        )
    logger.info("Engine: native (hloc has no %s mapper)", mapper)
    return engines.choose("native", "reconstruct")


def _sharing(camera_mode: str, camera: str | None) -> str:
    """Return which images share a camera: all of them where it is given, unless a mode is too."""
    return "single" if camera is not None and camera_mode == "auto" else camera_mode


def _run(
    job: Job, spread: Spread, verbose: bool, build: Callable[..., Apart | None], *args: Any
) -> None:
    """Build a model in processes of their own, and put it in its place."""
    kept = job.sfm_dir / building.CLUSTERS, job.sfm_dir / building.CLUSTER_LOGS
    with colmap.building(job.sfm_dir) as folder:

        def in_process(function: Callable[..., T], *args: Any) -> T:
            return isolated.call(
                function,
                job,
                folder,
                *args,
                task=f"building the model in {job.sfm_dir}",
                log_dir=job.sfm_dir,
                verbose=verbose,
            )

        apart = in_process(build, *args)
        if apart is not None:
            cluster_mapping.map_clusters(apart.found, spread)
            in_process(_join, apart)
        for place in kept:
            shutil.rmtree(place, ignore_errors=True)


def _build_with_hloc(
    job: Job,
    folder: Path,
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    camera_mode: str,
    camera: str | None,
    verbose: bool,
) -> None:
    """Build the largest model by hloc, from the pairs that are not those of chance."""
    hloc = plugin.hloc_module("reconstruction", needed_for="the hloc engine")
    pairs = read_pairs(pairs_path)
    names = sorted({name for pair in pairs for name in pair})
    sound = verify.sound_pairs(pairs, feature_path, match_path)
    if not sound:
        raise NoModel(
            f"no model could be built: 0 of {len(pairs)} pairs agree geometrically; the photos "
            "need more overlap, or other pairs or features"
        )
    chosen = folder / pairs_path.name
    write_pairs(chosen, sound)
    with colmap.readable_photos(job.image_dir, names, folder) as photos:
        model = hloc.main(
            folder,
            photos,
            chosen,
            feature_path,
            match_path,
            camera_mode=colmap.camera_mode(camera_mode),
            verbose=verbose,
            image_list=names,
            image_options=colmap.image_reader_options(camera),
            mapper_options=mapping.options(len(names), job.fix_intrinsics),
        )
    building.finish(job, folder, [model], len(pairs))


def _join(job: Job, folder: Path, apart: Apart) -> None:
    """Join the models of clusters that are mapped; only the robust adjustment completes them."""
    job = replace(job, robust=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        models = hierarchical.join(apart.found, Path(scratch))
    building.finish(job, folder, models, apart.num_pairs)
