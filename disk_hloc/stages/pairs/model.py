"""Pairs of the images of a COLMAP model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import scipy.sparse

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import angle_between
from disk_hloc.io.colmap import cam_from_world, read_model, registered_images, to_pose
from disk_hloc.io.hloc.pairs import Pair


def covisibility(model_path: Path, *, num_matched: int) -> list[Pair]:
    """Pair every image of a model with those that share the most points with it.

    Args:
        model_path: the folder of a COLMAP model with points.
        num_matched: the largest number of partners of an image; all of them share points with it.

    Raises:
        DiskHlocError: no model, or no two of its images share points.
    """
    model = read_model(model_path)
    images = _registered(model)
    place = {image.image_id: i for i, image in enumerate(images)}
    rows: list[int] = []
    columns: list[int] = []
    for column, point in enumerate(model.points3D.values()):
        seen_by = {place[element.image_id] for element in point.track.elements}
        rows.extend(seen_by)
        columns.extend([column] * len(seen_by))
    shape = (len(images), model.num_points3D())
    seen = scipy.sparse.csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape)
    pairs = []
    for i, image in enumerate(images):
        shared = (seen[[i]] @ seen.T).toarray()[0]
        shared[i] = 0
        for j in np.argsort(-shared, kind="stable")[:num_matched]:
            if shared[j] > 0:
                pairs.append((image.name, images[j].name))
    if not pairs:
        raise DiskHlocError(
            f"no two images of {model_path} share points: choose pairs by poses instead"
        )
    return pairs


def poses(model_path: Path, *, num_matched: int, max_angle: float = 30.0) -> list[Pair]:
    """Pair every image of a model with the nearest that look the same way.

    Args:
        model_path: the folder of a COLMAP model; its points are not used.
        num_matched: the largest number of partners of an image.
        max_angle: the largest angle between viewing directions, in degrees.

    Raises:
        DiskHlocError: no model, or none of its images look the same way.
    """
    images = _registered(read_model(model_path))
    located = [to_pose(cam_from_world(image)) for image in images]
    centers = np.array([pose.center for pose in located])
    # What an image looks along is the third row of its rotation.
    directions = np.array([pose.rotation[2] for pose in located])
    pairs = []
    for i, image in enumerate(images):
        distances = np.linalg.norm(centers - centers[i], axis=1)
        distances[angle_between(directions, directions[i]) >= max_angle] = np.inf
        distances[i] = np.inf
        for j in np.argsort(distances, kind="stable")[:num_matched]:
            if np.isfinite(distances[j]):
                pairs.append((image.name, images[j].name))
    if not pairs:
        raise DiskHlocError(f"no two images of {model_path} look the same way within {max_angle}°")
    return pairs


def _registered(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Return images sorted by name, so that ties do not depend on how a model was built."""
    return sorted(registered_images(model), key=lambda image: image.name)
