"""Check a COLMAP database before pycolmap opens it.

COLMAP trusts its databases: a match of a keypoint that is not there reads foreign memory, and an
unknown camera model or a blob of another size ends the process. SQLite alone reads here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io.names import require_relative

# In a database a pair's id is that of one image, times this, and that of the other.
MAX_IMAGES = 2**31 - 1

_COLUMNS = {
    "cameras": ("camera_id", "model", "width", "height", "params", "prior_focal_length"),
    "images": ("image_id", "name", "camera_id"),
    "keypoints": ("image_id", "rows", "cols", "data"),
    "matches": ("pair_id", "rows", "cols", "data"),
    "two_view_geometries": ("pair_id", "rows", "cols", "data", "config"),
}
# x and y; with scale and orientation; or with an affine shape.
_KEYPOINT_COLUMNS = (2, 4, 6)
# Bytes of the columns of float64 that not all versions of COLMAP have.
_MATRICES = {
    "two_view_geometries": {"F": 72, "E": 72, "H": 72, "qvec": 32, "tvec": 24},
    "pose_priors": {"position": 24, "position_covariance": 72, "gravity": 24},
    "rig_sensors": {"sensor_from_rig": 56},
}
_RIGS = {
    "rigs": ("rig_id", "ref_sensor_id", "ref_sensor_type"),
    "rig_sensors": ("rig_id", "sensor_id", "sensor_type"),
    "frames": ("frame_id", "rig_id"),
    "frame_data": ("frame_id", "data_id", "sensor_id", "sensor_type"),
}
# A sensor of type 0 is a camera, and its data are images.
_IMAGES_IN_FRAMES = """
    SELECT image_id FROM images
    JOIN frame_data ON data_id = image_id AND sensor_id = camera_id AND sensor_type = 0
    JOIN frames USING (frame_id)
    WHERE camera_id IN (
        SELECT ref_sensor_id FROM rigs WHERE rigs.rig_id = frames.rig_id AND ref_sensor_type = 0
        UNION ALL
        SELECT sensor_id FROM rig_sensors
        WHERE rig_sensors.rig_id = frames.rig_id AND sensor_type = 0
    )
"""
_CONFIGS = frozenset(
    int(config) for config in pycolmap.TwoViewGeometryConfiguration.__members__.values()
)


def require_sound_database(path: Path) -> None:
    """Check that pycolmap can open and map a database without harm.

    Rows are read one by one, so memory stays small.

    Args:
        path: the database; it is not changed.

    Raises:
        DiskHlocError: the file does not exist or is not a COLMAP database; a table or column is
            missing; a blob does not have the size that its row says; a camera model or an image is
            unknown; an image name leads out of its folder; or a match has no keypoint.
    """
    if not path.is_file():
        raise DiskHlocError(f"there is no database {path}")
    try:
        with closing(sqlite3.connect(path)) as database:
            _check(database, path)
    except _Unsound as error:
        raise DiskHlocError(f"the COLMAP database {path} is broken: {error}") from error
    except (*PARSER_ERRORS, sqlite3.Error) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"{path} is not a COLMAP database, or is broken: {reason}") from error


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn what COLMAP says of a database, which passed the check, into a DiskHlocError."""
    try:
        yield
    except (LookupError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"COLMAP cannot use the database {path}: {reason}") from error


class _Unsound(Exception):
    """What is wrong with a database."""


def _check(database: sqlite3.Connection, path: Path) -> None:
    tables = _require_tables(database)
    cameras = _require_cameras(database)
    names = _require_images(database, cameras, path)
    counts = _require_keypoints(database, names)
    for table in ("matches", "two_view_geometries"):
        _require_matches(database, table, names, counts)
    _require_geometries(database)
    for table, sizes in _MATRICES.items():
        _require_sizes(database, table, sizes, tables)
    _require_frames(database, tables, names)


def _require_tables(database: sqlite3.Connection) -> Mapping[str, frozenset[str]]:
    """Check tables and columns; return table -> its columns."""
    tables = {}
    for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_master"):
        # A view, a trigger or a virtual table runs what the file's author wrote.
        if kind in ("view", "trigger") or (sql or "").upper().startswith("CREATE VIRTUAL"):
            raise _Unsound(f"it has a {kind} {name}, which no database of COLMAP has")
        if kind == "table":
            quoted = name.replace('"', '""')
            described = database.execute(f'PRAGMA table_info("{quoted}")')
            tables[name] = frozenset(column[1] for column in described)
    for table, columns in _COLUMNS.items():
        if table not in tables:
            raise _Unsound(f"the table {table} is missing")
        missing = [column for column in columns if column not in tables[table]]
        if missing:
            raise _Unsound(f"the table {table} has no column {', '.join(missing)}")
    return tables


def _require_cameras(database: sqlite3.Connection) -> set[int]:
    """Check the cameras; return their ids."""
    models = {
        int(model): name
        for name, model in pycolmap.CameraModelId.__members__.items()
        if name != "INVALID"
    }
    lengths = {
        model: len(pycolmap.Camera(model=name, width=2, height=2, params=[]).params_info.split(","))
        for model, name in models.items()
    }
    query = "SELECT camera_id, model, width, height, params, prior_focal_length FROM cameras"
    ids = set()
    for camera_id, model, width, height, params, prior in database.execute(query):
        where = f"camera {camera_id}"
        _require_integers(where, (camera_id, model, width, height, prior))
        if model not in models:
            raise _Unsound(f"{where}: pycolmap {pycolmap.__version__} has no camera model {model}")
        if not (1 <= width < 2**31 and 1 <= height < 2**31):
            raise _Unsound(f"{where}: an image size of {width} x {height}")
        count = lengths[model]
        if not isinstance(params, bytes) or len(params) != 8 * count:
            raise _Unsound(f"{where}: {models[model]} has {count} parameters of 8 bytes each")
        if not np.isfinite(np.frombuffer(params)).all():
            raise _Unsound(f"{where}: a parameter is not finite")
        ids.add(camera_id)
    return ids


def _require_images(database: sqlite3.Connection, cameras: set[int], path: Path) -> dict[int, str]:
    """Check the images; return id -> name."""
    names = {}
    for image_id, name, camera_id in database.execute(
        "SELECT image_id, name, camera_id FROM images"
    ):
        where = f"image {image_id}"
        _require_integers(where, (image_id, camera_id))
        if not 0 <= image_id < MAX_IMAGES:
            raise _Unsound(f"{where}: image ids are from 0 to {MAX_IMAGES - 1}")
        if not isinstance(name, str):
            raise _Unsound(f"{where}: its name {name!r} is not text")
        require_relative(name, f"{path}, {where}")
        if camera_id not in cameras:
            raise _Unsound(f"{where} ({name}): there is no camera {camera_id}")
        names[image_id] = name
    if len(set(names.values())) < len(names):
        raise _Unsound("two images have the same name")
    return names


def _require_keypoints(database: sqlite3.Connection, names: Mapping[int, str]) -> dict[int, int]:
    """Check the keypoints; return image id -> how many there are."""
    counts = {}
    for image_id, rows, cols, data in database.execute(
        "SELECT image_id, rows, cols, data FROM keypoints"
    ):
        where = f"keypoints of image {image_id} ({names.get(image_id, 'unknown')})"
        _require_blob(where, rows, cols, data, _KEYPOINT_COLUMNS)
        if rows and not np.isfinite(np.frombuffer(data, np.float32)).all():
            raise _Unsound(f"{where}: a value is not finite")
        counts[image_id] = rows
    return counts


def _require_matches(
    database: sqlite3.Connection, table: str, names: Mapping[int, str], counts: Mapping[int, int]
) -> None:
    for pair_id, rows, cols, data in database.execute(
        f"SELECT pair_id, rows, cols, data FROM {table}"
    ):
        where = f"{table}, pair {pair_id}"
        _require_integers(where, (pair_id,))
        first, second = divmod(pair_id, MAX_IMAGES)
        for image_id in (first, second):
            if image_id not in names:
                raise _Unsound(f"{where}: there is no image {image_id}")
        if first >= second:
            raise _Unsound(f"{where}: images {first} and {second} are not in COLMAP's order")
        _require_blob(where, rows, cols, data, (2,))
        if not rows:
            continue
        highest = np.frombuffer(data, np.uint32).reshape(rows, 2).max(axis=0).tolist()
        for image_id, index in zip((first, second), highest, strict=True):
            count = counts.get(image_id, 0)
            if index >= count:
                raise _Unsound(
                    f"{where}: a match refers to keypoint {index} of {names[image_id]}, which has "
                    f"{count} keypoints"
                )


def _require_geometries(database: sqlite3.Connection) -> None:
    for (config,) in database.execute("SELECT DISTINCT config FROM two_view_geometries"):
        if config not in _CONFIGS:
            raise _Unsound(f"two_view_geometries: there is no configuration {config!r}")


def _require_sizes(
    database: sqlite3.Connection,
    table: str,
    sizes: Mapping[str, int],
    tables: Mapping[str, frozenset[str]],
) -> None:
    """Check the lengths of a table's blobs; NULL and, as COLMAP 3 writes, empty are fine."""
    for column, size in sizes.items():
        if column not in tables.get(table, ()):
            continue
        query = f"SELECT typeof({column}), length({column}) FROM {table} WHERE {column} IS NOT NULL"
        for kind, length in database.execute(query):
            if kind != "blob" or length not in (0, size):
                raise _Unsound(f"{table}: {column} is a {kind} of {length} bytes instead of {size}")


def _require_frames(
    database: sqlite3.Connection, tables: Mapping[str, frozenset[str]], names: Mapping[int, str]
) -> None:
    """Check that each image is in a frame whose rig has its camera, once.

    COLMAP makes rigs and frames of its own where a database, as those before 3.12, has none.
    """
    present = [table for table in _RIGS if table in tables]
    if not any(database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in present):
        return
    for table in _RIGS:
        missing = [column for column in _RIGS[table] if column not in tables.get(table, ())]
        if missing:
            raise _Unsound(f"the table {table} has no column {', '.join(missing)}")
    found = {image_id for (image_id,) in database.execute(_IMAGES_IN_FRAMES)}
    for image_id, name in names.items():
        if image_id not in found:
            raise _Unsound(f"image {image_id} ({name}) is not in a frame whose rig has its camera")
    for (frame_id,) in database.execute(
        "SELECT frame_id FROM frame_data GROUP BY frame_id, sensor_type, sensor_id "
        "HAVING COUNT(*) > 1"
    ):
        raise _Unsound(f"frame {frame_id} has two images of one camera")


def _require_integers(where: str, values: Sequence[object]) -> None:
    for value in values:
        if not isinstance(value, int):
            raise _Unsound(f"{where}: {value!r} is not an integer")


def _require_blob(
    where: str, rows: object, cols: object, data: object, allowed: Sequence[int]
) -> None:
    """Check a blob of ``rows x cols`` values of 4 bytes."""
    if not isinstance(rows, int) or not isinstance(cols, int) or rows < 0:
        raise _Unsound(f"{where}: {rows!r} rows and {cols!r} columns")
    if rows == 0 and not data:
        return
    if cols not in allowed:
        raise _Unsound(f"{where}: {cols} columns, expected {' or '.join(map(str, allowed))}")
    length = len(data) if isinstance(data, bytes) else 0
    if length != 4 * rows * cols:
        raise _Unsound(f"{where}: {length} bytes of data, but {rows} rows of {cols} columns")
