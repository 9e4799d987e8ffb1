"""Write keypoints and matches to a COLMAP database, as h5_to_db.py of DISK's release does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
from numpy.typing import NDArray
from tqdm import tqdm

from disk_hloc.choices import RELEASE_CAMERAS
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import release as files
from disk_hloc.io.colmap import create_database
from disk_hloc.io.images import ImageReadError, image_size
from disk_hloc.io.masks import Masks, keep_keypoints
from disk_hloc.io.store import reading, require_space
from disk_hloc.log import logger


def main(
    h5_dir: Path,
    image_dir: Path,
    *,
    database_path: Path = Path("database.db"),
    image_extension: str = "jpg",
    single_camera: bool = False,
    camera_model: str = "simple-radial",
    release_origin: bool = False,
    masks: Mapping[str, Any] | None = None,
) -> Path:
    """Write a COLMAP database without descriptors, ready for verification and mapping.

    It differs from the release: (0, 0) is at the corner of the top-left pixel, as COLMAP has it
    (``release_origin`` leaves keypoints half a resized pixel off); COLMAP reads the focal length,
    which the release does not find in the EXIF block; and the distortion of simple-radial starts
    at 0 instead of 0.1.

    Args:
        h5_dir: the folder with ``keypoints.h5`` and ``matches.h5``.
        image_dir: the photos.
        database_path: the database to write, whole or not at all.
        image_extension: of the photos.
        single_camera: all photos share a camera; otherwise each has its own.
        camera_model: one of :data:`RELEASE_CAMERAS`; ``opencv`` for a single camera only.
        release_origin: write the coordinates of keypoints as they are stored.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`); matches of other
            keypoints are dropped, and keypoints keep their indices.

    Returns:
        ``database_path``.

    Raises:
        DiskHlocError: the database exists, an option is impossible, a file is missing or broken,
            or the disk is full.
    """
    _check_options(database_path, single_camera, camera_model)
    sources = None if masks is None else Masks(masks)
    keypoint_path, match_path = (files.path_of(h5_dir, kind) for kind in ("keypoints", "matches"))
    with files.reading_arrays(keypoint_path) as keypoints, reading(match_path) as matches:
        images = files.find_images(image_dir, keypoints, image_extension)
        sizes = {name: _size(image_dir / file) for name, file in images.items()}
        if not images:
            raise DiskHlocError(f"{keypoint_path} has no images")
        if single_camera and len(set(sizes.values())) > 1:
            raise DiskHlocError(
                f"the photos of {image_dir} have {len(set(sizes.values()))} sizes and cannot share "
                "a camera: leave out --single-camera"
            )
        database_path.parent.mkdir(parents=True, exist_ok=True)
        partial = database_path.with_name(f".{database_path.name}.{os.getpid()}")
        try:
            ids = create_database(
                partial,
                image_dir,
                sorted(images.values()),
                "single" if single_camera else "per-image",
                camera_model.upper().replace("-", "_"),
            )
            require_space(partial, keypoint_path.stat().st_size + match_path.stat().st_size)
            with (
                pycolmap.Database.open(partial) as database,
                pycolmap.DatabaseTransaction(database),
            ):
                keep = {}
                for name, file in tqdm(images.items(), desc="Import keypoints", unit="image"):
                    centered = files.read_centered(keypoints, name)
                    written = centered + 0.5
                    if release_origin:
                        written = files.read_keypoints(keypoints, name)
                    database.write_keypoints(ids[file], written.astype(np.float32))
                    keep[name] = np.ones(len(centered), dtype=bool)
                    if sources is not None:
                        keep[name] = keep_keypoints(sources(file, sizes[name]), centered)
                _write_matches(
                    database, matches, {name: ids[file] for name, file in images.items()}, keep
                )
            partial.replace(database_path)
        finally:
            for suffix in ("", "-wal", "-shm"):
                partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    if sources is not None:
        sources.log_missing(len(images))
    return database_path


def _check_options(database_path: Path, single_camera: bool, camera_model: str) -> None:
    if database_path.exists():
        raise DiskHlocError(
            f"{database_path} exists and is not replaced: remove it, or give another path with "
            "--database-path"
        )
    if camera_model not in RELEASE_CAMERAS:
        raise DiskHlocError(
            f"no camera model is called {camera_model!r}; known: {', '.join(RELEASE_CAMERAS)}"
        )
    if camera_model == "opencv" and not single_camera:
        raise DiskHlocError(
            "--camera-model opencv has too many parameters for a camera a photo: use it with "
            "--single-camera"
        )


def _write_matches(
    database: pycolmap.Database,
    matches: h5py.File,
    ids: Mapping[str, int],
    keep: Mapping[str, NDArray[np.bool_]],
) -> None:
    added: set[frozenset[str]] = set()
    dropped = 0
    for pair in tqdm(list(files.list_pairs(matches)), desc="Import matches", unit="pair"):
        files.require_names(matches, pair, ids)
        if frozenset(pair) in added:
            logger.warning("%s: %s %s is stored in both orders; the first is used",
                           matches.filename, *pair)  # fmt: skip
            continue
        added.add(frozenset(pair))
        name0, name1 = pair
        found = files.read_matches(matches, name0, name1, len(keep[name0]), len(keep[name1]))
        kept = found[:, keep[name0][found[0]] & keep[name1][found[1]]]
        dropped += found.shape[1] - kept.shape[1]
        database.write_matches(ids[name0], ids[name1], kept.T.astype(np.uint32))
    if dropped:
        logger.info("Dropped %d matches of masked keypoints", dropped)


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as stored."""
    try:
        return image_size(path)
    except ImageReadError as error:
        raise DiskHlocError(f"{path} cannot be read: {error}") from error
