"""The figures of a COLMAP model, and the errors of its poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose, align, rotation_angle
from disk_hloc.io.colmap import poses_of


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a model's poses after its camera centres were aligned by a similarity.

    Attributes:
        names: the images compared.
        position: (N,) distances of the centres in the unit of the known poses (metres).
        rotation: (N,) angles between the orientations in degrees.
        missing: images with a known pose that the model did not register.
    """

    names: list[str]
    position: np.ndarray
    rotation: np.ndarray
    missing: list[str]


def summarize(model: pycolmap.Reconstruction, num_images: int) -> dict[str, int | float]:
    """Return the figures of a model.

    Args:
        model: a reconstruction.
        num_images: from how many images it was built.

    Returns:
        ``images``, ``registered``, ``points3D``, ``observations``, ``mean_track_length``,
        ``mean_reprojection_error`` (pixels).
    """
    return {
        "images": num_images,
        "registered": model.num_reg_images(),
        "points3D": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "mean_track_length": round(model.compute_mean_track_length(), 4),
        "mean_reprojection_error": round(model.compute_mean_reprojection_error(), 4),
    }


def align_model(
    model: pycolmap.Reconstruction, truth: Mapping[str, Pose]
) -> tuple[list[str], tuple[float, np.ndarray, np.ndarray]]:
    """Return the similarity that brings a model's camera centres nearest to known ones.

    Args:
        model: a reconstruction.
        truth: image name -> known pose.

    Returns:
        The images used, and scale, (3, 3) rotation, (3,) translation of ``truth_from_model``.

    Raises:
        DiskHlocError: fewer than three images of the model have a known pose.
    """
    estimated = poses_of(model)
    names = sorted(set(estimated) & set(truth))
    if len(names) < 3:
        raise DiskHlocError(
            f"{len(names)} registered images have a known pose, but an alignment needs 3"
        )
    centers = np.array([estimated[name].center for name in names])
    return names, align(centers, np.array([truth[name].center for name in names]))


def pose_errors(model: pycolmap.Reconstruction, truth: Mapping[str, Pose]) -> PoseErrors:
    """Return how far the poses of a model are from known ones.

    The model is moved into the frame of the known poses by the similarity that minimizes the
    squared distances of the camera centres (:func:`disk_hloc.geometry.align`).

    Args:
        model: a reconstruction.
        truth: image name -> known pose.

    Raises:
        DiskHlocError: fewer than three images of the model have a known pose.
    """
    estimated = poses_of(model)
    names, (scale, world_rotation, translation) = align_model(model, truth)
    centers = np.array([estimated[name].center for name in names])
    true_centers = np.array([truth[name].center for name in names])
    aligned = scale * centers @ world_rotation.T + translation
    position = np.linalg.norm(aligned - true_centers, axis=1)
    rotation = np.array(
        [
            rotation_angle(truth[name].rotation @ world_rotation @ estimated[name].rotation.T)
            for name in names
        ]
    )
    return PoseErrors(names, position, rotation, sorted(set(truth) - set(estimated)))
