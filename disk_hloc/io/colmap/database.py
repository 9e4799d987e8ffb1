"""COLMAP's databases: images, cameras, keypoints, matches and verified matches."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io.digests import digest_of_each
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_best_first
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.names import require_relative
from disk_hloc.io.store import reading, require_space

from .cameras import camera_object, image_reader_options
from .import_photos import Group, by_colmap, groups_of, import_photos
from .pose_priors import correct_pose_priors

# hloc's options for geometric verification.
VERIFICATION: dict[str, Any] = {"ransac": {"max_num_trials": 20000, "min_inlier_ratio": 0.1}}

# The id of a pair is that of one image, times this, plus that of the other.
_MAX_IMAGES = 2**31 - 1


def create_database(
    path: Path,
    image_dir: Path,
    names: Sequence[str],
    mode: str,
    camera: str | None,
    cameras: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Create a database with images, their cameras and GPS positions; a former one is removed.

    Args:
        path: the database.
        image_dir: the photos.
        names: the images.
        mode: which images share a camera, one of :data:`CAMERA_MODES`.
        camera: the camera of all images, as :func:`image_reader_options` takes it.
        cameras: image name -> camera, of every image; then no images share a camera.

    Returns:
        Image name -> image id.

    Raises:
        DiskHlocError: COLMAP cannot read some of the images.
    """
    _remove_database(path)
    require_space(path, 1 << 20)
    with pycolmap.Database.open(path):
        pass
    options = image_reader_options(camera)
    found = groups_of(image_dir, names, "per-image" if cameras else mode, camera)
    import_photos(path, image_dir, [(sharing, group, options) for sharing, group in found])
    ids = _ids_of(path, names)
    if cameras:
        _set_cameras(path, cameras)
    correct_pose_priors(path, image_dir, ids)
    return ids


def add_images(
    path: Path,
    image_dir: Path,
    names: Sequence[str],
    camera_ids: Mapping[str, int],
    camera: str | None = None,
) -> dict[str, int]:
    """Add images to a database, with their cameras and GPS positions.

    Args:
        path: the database, which has none of these images.
        image_dir: the photos.
        names: the images.
        camera_ids: image name -> id of a camera that the database has. All others get cameras as by
            :func:`create_database` in the mode ``auto``, or if ``camera`` is given, one together.
        camera: as :func:`image_reader_options` takes it.

    Returns:
        Image name -> image id.

    Raises:
        DiskHlocError: COLMAP cannot read some of the images.
    """
    shared: dict[int, list[str]] = {}
    for name in names:
        if name in camera_ids:
            shared.setdefault(camera_ids[name], []).append(name)
    rest = [name for name in names if name not in camera_ids]
    mode = "auto" if camera is None else "single"
    groups: list[Group] = [
        (sharing, group, image_reader_options(camera))
        for sharing, group in groups_of(image_dir, rest, mode, camera)
        if group
    ]
    groups += [
        ("single", group, {"existing_camera_id": camera_id}) for camera_id, group in shared.items()
    ]
    by_colmap(path, image_dir, groups)
    ids = _ids_of(path, names)
    correct_pose_priors(path, image_dir, ids)
    return ids


def _ids_of(path: Path, names: Iterable[str]) -> dict[str, int]:
    """Return image name -> image id."""
    with pycolmap.Database.open(path) as database:
        found = {image.name: image.image_id for image in database.read_all_images()}
    return {name: found[name] for name in names}


def keep_images(path: Path, image_ids: Collection[int]) -> None:
    """Remove all images of a database but these, with all that belongs to them.

    By SQL: pycolmap removes no images. Their cameras stay.
    """
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TEMP TABLE kept (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO kept VALUES (?)", [(int(i),) for i in image_ids])
        for table in ("keypoints", "descriptors", "images"):
            database.execute(f"DELETE FROM {table} WHERE image_id NOT IN kept")
        for table in ("matches", "two_view_geometries"):
            database.execute(
                f"DELETE FROM {table} WHERE pair_id / {_MAX_IMAGES} NOT IN kept "
                f"OR pair_id % {_MAX_IMAGES} NOT IN kept"
            )
        of_camera = int(pycolmap.SensorType.CAMERA)
        database.execute(
            f"DELETE FROM frame_data WHERE sensor_type = {of_camera} AND data_id NOT IN kept"
        )
        database.execute(
            "DELETE FROM frames WHERE frame_id NOT IN (SELECT frame_id FROM frame_data)"
        )
        # Until COLMAP 4 a prior belongs to an image, then to the data of a sensor.
        columns = {row[1] for row in database.execute("PRAGMA table_info(pose_priors)")}
        if "image_id" in columns:
            database.execute("DELETE FROM pose_priors WHERE image_id NOT IN kept")
        else:
            database.execute(
                f"DELETE FROM pose_priors WHERE corr_sensor_type = {of_camera} "
                "AND corr_data_id NOT IN kept"
            )


def create_database_of(path: Path, model: pycolmap.Reconstruction) -> dict[str, int]:
    """Create a database with a model's images and cameras; a former one is removed.

    Returns:
        Image name -> image id, the same as in the model.
    """
    _remove_database(path)
    require_space(path, 1 << 20)
    with pycolmap.Database.open(path) as database, pycolmap.DatabaseTransaction(database):
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for frame in model.frames.values():
            database.write_frame(frame, use_frame_id=True)
        for image in model.images.values():
            database.write_image(image, use_image_id=True)
    return {image.name: image_id for image_id, image in model.images.items()}


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _set_cameras(path: Path, cameras: Mapping[str, str]) -> None:
    with pycolmap.Database.open(path) as database, pycolmap.DatabaseTransaction(database):
        for image in database.read_all_images():
            before = database.read_camera(image.camera_id)
            known = camera_object(cameras[image.name], before.width, before.height)
            known.camera_id = image.camera_id
            known.has_prior_focal_length = True
            database.update_camera(known)


def copy_database(path: Path, output: Path) -> None:
    """Copy a database, including what other programs have written to its journal.

    Raises:
        DiskHlocError: the disk is full, or both paths are the same file.
    """
    if output.exists() and output.samefile(path):
        raise DiskHlocError(f"{path} would be replaced by its own copy: give another folder")
    require_space(output, path.stat().st_size)
    _remove_database(output)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(output)) as target:
        source.backup(target)


def digest_of_database(path: Path) -> str:
    """Return the digest of all that a database holds: equal for equal rows in equal order."""

    def parts() -> Iterator[bytes]:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in sorted(tables):
            yield f"{table}\n".encode()
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    data = value if isinstance(value, bytes) else repr(value).encode()
                    yield b"%s %d\n" % (type(value).__name__.encode(), len(data))
                    yield data

    with closing(sqlite3.connect(path)) as database:
        return digest_of_each(parts())


def import_features_and_matches(
    database_path: Path,
    ids: dict[str, int],
    feature_path: Path,
    pairs: Sequence[Pair],
    match_path: Path,
    *,
    known: Collection[str] = (),
) -> bool:
    """Write keypoints and matches into a database; after an error, it must not be used.

    The matches of a pair are written in the order of their scores, the best first.

    Args:
        database_path: a database that has the images.
        ids: image name -> image id.
        feature_path: the features file.
        pairs: the pairs to import.
        match_path: the matches file.
        known: images whose keypoints the database has; others may come after those of the file.

    Returns:
        Whether all pairs have scores.

    Raises:
        DiskHlocError: a pair is not in the matches file, its matches belong to other features, or
            the disk is full.
    """
    with reading(feature_path) as features, reading(match_path) as stored_matches:
        # Descriptors, nine tenths of a features file, are not written; matches are written a second
        # time when they are verified.
        size = feature_path.stat().st_size // 8 + match_path.stat().st_size * 2
        require_space(database_path, size)
        with (
            pycolmap.Database.open(database_path) as database,
            pycolmap.DatabaseTransaction(database),
        ):
            counts = {}
            all_scored = True
            for name, image_id in tqdm(ids.items(), desc="Import features", unit="image"):
                keypoints = read_keypoints(features, name)
                counts[name] = len(keypoints)
                if name not in known:
                    database.write_keypoints(image_id, keypoints + np.float32(0.5))
            for name0, name1 in tqdm(pairs, desc="Import matches", unit="pair"):
                matches, scored = read_best_first(
                    stored_matches, name0, name1, (counts[name0], counts[name1])
                )
                if matches is None:
                    raise DiskHlocError(
                        f"{match_path} has no pair {name0} {name1}: match these pairs first"
                    )
                all_scored = all_scored and scored
                database.write_matches(ids[name0], ids[name1], matches.astype(np.uint32))
    return all_scored


def has_geometry(database: pycolmap.Database, image_id1: int, image_id2: int) -> bool:
    """Whether a pair has been verified, successfully or not: named otherwise before COLMAP 4."""
    name = "exists_two_view_geometry"
    exists = getattr(database, name, None) or database.exists_inlier_matches
    return bool(exists(image_id1, image_id2))


def delete_geometry(database: pycolmap.Database, image_id1: int, image_id2: int) -> None:
    """Forget what was verified of a pair: named otherwise before COLMAP 4."""
    delete = getattr(database, "delete_two_view_geometry", None) or database.delete_inlier_matches
    delete(image_id1, image_id2)


def pair_id(first: int, second: int) -> int:
    """Return the id of the pair of two images, whose ids are in either order."""
    return min(first, second) * _MAX_IMAGES + max(first, second)


def pair_images(pair_id: int) -> tuple[int, int]:
    """Return the ids of a pair's images."""
    first, second = divmod(pair_id, _MAX_IMAGES)
    return first, second


def read_images_and_pairs(path: Path) -> tuple[list[str], list[Pair]]:
    """Read the names of a database's images, and its pairs that have matches; both sorted.

    Raises:
        DiskHlocError: there is no such file, it is not a COLMAP database, or it has no matches.
    """
    if not path.is_file():
        raise DiskHlocError(f"database not found: {path}")
    try:
        with closing(sqlite3.connect(path)) as database:
            names = _read_names(database, path)
            stored = database.execute("SELECT pair_id FROM matches WHERE rows > 0").fetchall()
            pairs = [pair_images(pair_id) for (pair_id,) in stored]
            found = sorted((names[first], names[second]) for first, second in pairs)
    except (*PARSER_ERRORS, MemoryError, sqlite3.Error) as error:
        raise DiskHlocError(
            f"{path} is not a COLMAP database, or is not complete: {error}"
        ) from error
    if not found:
        raise DiskHlocError(f"{path} has no matches: match first, e.g. disk-hloc release match")
    return sorted(names.values()), found


def read_verified(database_path: Path) -> dict[Pair, np.ndarray]:
    """Read pair -> (K, 2) int64 verified matches of its images' keypoints.

    They are read by SQL: the tables do not differ between pycolmap's versions.
    """
    query = "SELECT pair_id, rows, data FROM two_view_geometries WHERE rows > 0"
    with closing(sqlite3.connect(database_path)) as database:
        names = _read_names(database, database_path)
        verified = {}
        for pair_id, rows, data in database.execute(query):
            first, second = pair_images(pair_id)
            matches = np.frombuffer(data, np.uint32).reshape(rows, 2)
            verified[names[first], names[second]] = matches.astype(np.int64)
    return verified


def read_counts(
    database_path: Path, min_inliers: int
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return photo -> keypoints, photo -> pairs with matches, and photo -> verified pairs.

    Args:
        database_path: the database.
        min_inliers: a pair with fewer verified matches does not count as verified.
    """
    with closing(sqlite3.connect(database_path)) as database:
        names = dict(database.execute("SELECT image_id, name FROM images"))
        keypoints = dict(database.execute("SELECT image_id, rows FROM keypoints"))
        pairs = database.execute("SELECT pair_id, rows FROM matches").fetchall()
        geometries = database.execute("SELECT pair_id, rows FROM two_view_geometries").fetchall()

    def count(rows: Iterable[tuple[int, int]], least: int) -> dict[str, int]:
        counts = dict.fromkeys(names.values(), 0)
        for pair, size in rows:
            if size >= least:
                for image_id in pair_images(pair):
                    counts[names[image_id]] += 1
        return counts

    return (
        {name: keypoints.get(image_id, 0) for image_id, name in names.items()},
        count(pairs, 1),
        count(geometries, min_inliers),
    )


def read_frames(path: Path) -> dict[int, list[tuple[int, str]]]:
    """Return frame -> the ids and names of its images; nothing is written.

    In a database from before COLMAP 3.12, which has no frames, each image is one.
    """
    query = "SELECT data_id, frame_id FROM frame_data WHERE sensor_type = ?"
    with closing(sqlite3.connect(path)) as database:
        names = dict(database.execute("SELECT image_id, name FROM images"))
        found = database.execute(query, (int(pycolmap.SensorType.CAMERA),)).fetchall()
    images: dict[int, list[tuple[int, str]]] = {}
    for image_id, frame_id in found or [(image_id, image_id) for image_id in names]:
        images.setdefault(frame_id, []).append((image_id, names[image_id]))
    return images


def read_sizes(database_path: Path) -> dict[str, tuple[int, int]]:
    """Read image name -> width and height of its camera in pixels; nothing is written."""
    query = "SELECT name, width, height FROM images JOIN cameras USING (camera_id)"
    with closing(sqlite3.connect(database_path)) as database:
        return {name: (width, height) for name, width, height in database.execute(query)}


def read_cameras(database_path: Path) -> dict[str, str]:
    """Read image name -> ``"PINHOLE fx,fy,cx,cy"`` or another model; nothing is written.

    Raises:
        DiskHlocError: there is no such file, or it is not a COLMAP database.
    """
    if not database_path.is_file():
        raise DiskHlocError(f"database not found: {database_path}")
    query = "SELECT name, model, params FROM images JOIN cameras USING (camera_id)"
    address = f"{database_path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute(query).fetchall()
            _read_names(database, database_path)
        return {
            name: f"{pycolmap.CameraModelId(model).name} "
            + ",".join(map(str, np.frombuffer(params)))
            for name, model, params in rows
        }
    except (*PARSER_ERRORS, MemoryError, sqlite3.Error) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"{database_path} is not a COLMAP database: {reason}") from error


def _read_names(database: sqlite3.Connection, path: Path) -> dict[int, str]:
    """Return image id -> name."""
    names = dict(database.execute("SELECT image_id, name FROM images"))
    for name in names.values():
        if not isinstance(name, str):
            raise DiskHlocError(f"{path}: the image name {name!r} is not text")
        require_relative(name, path)
    return names
