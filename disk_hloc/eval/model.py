"""What a COLMAP model holds, and how far its poses are from known ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import cam_from_world
from disk_hloc.io.hloc.poses import Pose


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a model's poses after a similarity alignment of its camera centres.

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
    """Figures of a model.

    Args:
        model: a reconstruction.
        num_images: how many images it was to be built from.

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


def pose_errors(model: pycolmap.Reconstruction, truth: Mapping[str, Pose]) -> PoseErrors:
    """Compare a model with known poses.

    The model is brought into the frame of the known poses by the similarity that minimizes the
    squared distances of the camera centres (Umeyama 1991).

    Args:
        model: a reconstruction.
        truth: image name -> known pose.

    Raises:
        DiskHlocError: fewer than three images of the model have a known pose.
    """
    estimated = {
        image.name: cam_from_world(image)
        for image in (model.images[image_id] for image_id in model.reg_image_ids())
    }
    names = sorted(set(estimated) & set(truth))
    if len(names) < 3:
        raise DiskHlocError(
            f"{len(names)} registered images have a known pose: an alignment needs three"
        )
    rotations = [estimated[name].rotation.matrix() for name in names]
    centers = np.array(
        [-r.T @ estimated[name].translation for r, name in zip(rotations, names, strict=True)]
    )
    true_centers = np.array([truth[name].center for name in names])
    scale, world_rotation, translation = align(centers, true_centers)
    position = np.linalg.norm(
        scale * centers @ world_rotation.T + translation - true_centers, axis=1
    )
    rotation = np.array(
        [
            angle(truth[name].rotation @ world_rotation @ r.T)
            for r, name in zip(rotations, names, strict=True)
        ]
    )
    return PoseErrors(names, position, rotation, sorted(set(truth) - set(estimated)))


def align(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The similarity that brings points onto others with the least squared distance.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. (pycolmap has it from 3.11 on only.)

    Args:
        source: (N, 3).
        target: (N, 3), in the same order.

    Returns:
        scale, (3, 3) rotation, (3,) translation of ``target_from_source``.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered_source, centered_target = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(centered_target.T @ centered_source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / (centered_source**2).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def angle(rotation: np.ndarray) -> float:
    """The angle of a (3, 3) rotation matrix in degrees, exact also for small ones."""
    sine = np.linalg.norm(rotation - rotation.T) / (2 * np.sqrt(2))
    cosine = (np.trace(rotation) - 1) / 2
    return float(np.degrees(np.arctan2(sine, cosine)))
