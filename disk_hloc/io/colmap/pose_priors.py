"""GPS positions in COLMAP's databases: pose priors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.io.exif import Position
from disk_hloc.io.gps import read_positions

# GPS is about half as precise in height; EXIF data hold the horizontal error alone.
_VERTICAL = 2.0


def correct_pose_priors(database_path: Path, image_dir: Path, ids: Mapping[str, int]) -> None:
    """Have the pose priors of a database agree with the photos' EXIF data.

    ``pycolmap.import_images`` writes a prior for each photo with GPS. It takes the zeros of devices
    without a fix for a position in the Gulf of Guinea and, depending on version and format, heights
    below sea level for heights above. Such positions are corrected, and the precision that a photo
    states becomes a covariance in m^2. There is one prior for an image, as before. A photo without
    an altitude has no position in the database: COLMAP's has three coordinates.

    Args:
        database_path: a database that has the images.
        image_dir: the photos.
        ids: image name -> image id.
    """
    positions = read_positions(image_dir, ids)
    with pycolmap.Database.open(database_path) as database, pycolmap.DatabaseTransaction(database):
        priors = read_priors(database, ids.values())
        for name, image_id in ids.items():
            before, position = priors.get(image_id), positions.get(name)
            if position is not None and position.altitude is not None:
                prior = before or pycolmap.PosePrior()
                if _set(prior, position) or before is None:
                    write_prior(database, image_id, prior, new=before is None)
            elif before is not None and np.isfinite(before.position).all():
                before.position = np.full(3, np.nan)
                before.coordinate_system = pycolmap.PosePriorCoordinateSystem.UNDEFINED
                write_prior(database, image_id, before, new=False)


def _set(prior: pycolmap.PosePrior, position: Position) -> bool:
    """Set a prior's position; return whether it changed."""
    values = np.array([position.latitude, position.longitude, position.altitude])
    changed = not np.allclose(prior.position, values, rtol=0, atol=[1e-9, 1e-9, 1e-3])
    if changed:
        prior.position = values
        prior.coordinate_system = pycolmap.PosePriorCoordinateSystem.WGS84
    if position.precision is not None and position.precision > 0:
        deviations = position.precision * np.array([1, 1, _VERTICAL])
        prior.position_covariance = np.diag(deviations**2)
        changed = True
    return changed


# Since pycolmap 4, a prior belongs to the data of a sensor, and has an id of its own.
_OF_SENSORS = hasattr(pycolmap.PosePrior(), "corr_data_id")


def read_priors(
    database: pycolmap.Database, image_ids: Iterable[int]
) -> dict[int, pycolmap.PosePrior]:
    """Read image id -> prior, of the images that have one."""
    if _OF_SENSORS:
        return {prior.corr_data_id.id: prior for prior in database.read_all_pose_priors()}
    return {
        image_id: database.read_pose_prior(image_id)
        for image_id in image_ids
        if database.exists_pose_prior(image_id)
    }


def write_prior(
    database: pycolmap.Database, image_id: int, prior: pycolmap.PosePrior, *, new: bool
) -> None:
    """Write the prior of an image of a database.

    Args:
        database: it has the image.
        image_id: the image.
        prior: its prior.
        new: the image has none yet.
    """
    write = database.write_pose_prior if new else database.update_pose_prior
    if not _OF_SENSORS:
        write(image_id, prior)
        return
    if new:
        prior.corr_data_id = database.read_image(image_id).data_id
    write(prior)
