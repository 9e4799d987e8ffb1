"""From keypoints and the points that they may see to a pose, or the reason why it has no pose."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from disk_hloc.binomial import log10_tail
from disk_hloc.io import colmap

from . import covariance
from .covariance import View

# COLMAP's largest reprojection error of an inlier in pixels, which hloc takes, too.
MAX_ERROR_PX = 12.0
# The largest probability of as many inliers, as a power of ten, if keypoints saw points that were
# drawn at random (docs/localization.md has the figures).
MAX_LOG10_CHANCE = -20.0
_NUM_SHUFFLES = 32
# The side of a cell, relative to the longer side of the photo.
_CELL = 0.02
# Of cells with inliers in a shuffle, where none has any.
_LEAST_BY_CHANCE = 1 / 16
# COLMAP's mapper takes others for wrong, too: relative to the longer side.
_FOCAL_LENGTHS = (0.1, 10.0)
# Keypoints that determine a pose, and a pose with a focal length.
_MINIMAL = 4


@dataclass(frozen=True)
class Estimate:
    """A pose, and how well it agrees with the correspondences.

    Attributes:
        cam_from_world: of the camera, or of the rig.
        camera: the camera, with the focal length that was estimated, if it was.
        covariance: (6, 6) of :func:`disk_hloc.localizer.covariance.of_pose`, or None.
        inliers: (N,) bool.
        log10_chance: log10 of the probability of as many inliers by chance: 0 for a focal length
            that no camera has.
    """

    cam_from_world: pycolmap.Rigid3d
    camera: pycolmap.Camera
    covariance: np.ndarray | None
    inliers: np.ndarray
    log10_chance: float

    @property
    def is_sound(self) -> bool:
        """Whether the inliers are not those of chance."""
        return self.log10_chance <= MAX_LOG10_CHANCE


def estimate(
    keypoints: np.ndarray,
    points: np.ndarray,
    camera: pycolmap.Camera,
    *,
    focal_length: str = "known",
    max_error: float = MAX_ERROR_PX,
) -> Estimate | None:
    """Estimate the pose of one photo by COLMAP's LO-RANSAC and its refinement.

    Args:
        keypoints: (N, 2) float64, COLMAP's: (0, 0) at the corner of the image.
        points: (N, 3) float64, that of each keypoint.
        camera: of the photo.
        focal_length: ``known``, ``guessed`` (refined with the pose, as hloc does it where EXIF
            gives it) or ``unknown`` (estimated by the minimal solver, too).
        max_error: the largest reprojection error of an inlier, in pixels.

    Returns:
        The pose, or None if no three keypoints agree on one.
    """
    if len(keypoints) < _MINIMAL:
        return None
    camera = copy.deepcopy(camera)
    found = pycolmap.estimate_and_refine_absolute_pose(
        keypoints,
        points,
        camera,
        estimation_options={
            "estimate_focal_length": focal_length == "unknown",
            "ransac": {"max_error": max_error, "random_seed": colmap.SEED},
        },
        refinement_options={
            "refine_focal_length": focal_length != "known",
            "loss_function_scale": covariance.LOSS_SCALE_PX,
        },
    )
    if found is None:
        return None
    inliers = np.asarray(found["inlier_mask"], bool)
    camera = found.get("camera", camera)
    view = View(pycolmap.Rigid3d(), camera, keypoints, points)
    refined = focal_length != "known"
    return _estimate(found["cam_from_world"], [view], [inliers], max_error, refined)


def estimate_rig(
    keypoints: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
    cameras: Sequence[pycolmap.Camera],
    cams_from_rig: Sequence[pycolmap.Rigid3d],
    *,
    max_error: float = MAX_ERROR_PX,
) -> Estimate | None:
    """Estimate the pose of several photos that are rigidly joined, as one generalized camera.

    Args:
        keypoints, points: of each photo, see :func:`estimate`.
        cameras: of each photo.
        cams_from_rig: where each photo is in the rig.
        max_error: see :func:`estimate`.

    Returns:
        The pose of the rig, with the inliers of all photos one after the other; or None.
    """
    counts = [len(part) for part in keypoints]
    if sum(counts) < _MINIMAL:
        return None
    found = pycolmap.estimate_and_refine_generalized_absolute_pose(
        np.concatenate(keypoints),
        np.concatenate(points),
        np.repeat(np.arange(len(counts)), counts).tolist(),
        list(cams_from_rig),
        list(cameras),
        estimation_options={"max_error": max_error, "random_seed": colmap.SEED},
        refinement_options={"loss_function_scale": covariance.LOSS_SCALE_PX},
    )
    if found is None:
        return None
    inliers = np.asarray(found["inlier_mask"], bool)
    views = [View(*view) for view in zip(cams_from_rig, cameras, keypoints, points, strict=True)]
    ends = np.cumsum(counts)[:-1]
    return _estimate(found["rig_from_world"], views, np.split(inliers, ends), max_error, False)


def _estimate(
    rig_from_world: pycolmap.Rigid3d,
    views: Sequence[View],
    inliers: Sequence[np.ndarray],
    max_error: float,
    refined_focal_length: bool,
) -> Estimate:
    """Judge a pose by its inliers, a mask of each view."""
    everywhere = np.concatenate(inliers)
    # Neighbours agree with a wrong pose together, so what is counted is places, not keypoints.
    cells = _cells(views, max_error)
    by_chance = [
        len(np.unique(cells[_by_chance(rig_from_world, views, seed, max_error)]))
        for seed in _seeds()
    ]
    num_cells = len(np.unique(cells))
    chance = _log10_chance(len(np.unique(cells[everywhere])), by_chance, num_cells)
    if refined_focal_length and not _is_possible(views[0].camera):
        chance = 0.0
    agreeing = [
        view._replace(keypoints=view.keypoints[inlier], points=view.points[inlier])
        for view, inlier in zip(views, inliers, strict=True)
    ]
    found = covariance.of_pose(rig_from_world, agreeing, refined_focal_length)
    return Estimate(rig_from_world, views[0].camera, found, everywhere, chance)


def _is_possible(camera: pycolmap.Camera) -> bool:
    least, most = (ratio * max(camera.width, camera.height) for ratio in _FOCAL_LENGTHS)
    return bool(least <= camera.mean_focal_length() <= most)


def _cells(views: Sequence[View], least: float) -> np.ndarray:
    """Return the (N,) number of the square of the grid of its photo that each keypoint is in.

    Args:
        views: the photos.
        least: the shortest side of a square, in pixels.
    """
    places = []
    for i, view in enumerate(views):
        side = max(least, _CELL * max(view.camera.width, view.camera.height))
        places.append(np.column_stack([np.full(len(view.points), i), view.keypoints // side]))
    _, numbers = np.unique(np.concatenate(places), axis=0, return_inverse=True)
    return np.asarray(numbers).reshape(-1)


def _seeds() -> range:
    return range(colmap.SEED, colmap.SEED + _NUM_SHUFFLES)


def _by_chance(
    rig_from_world: pycolmap.Rigid3d, views: Sequence[View], seed: int, max_error: float
) -> np.ndarray:
    """Return which (N,) keypoints would be inliers if each saw a point of another one."""
    shuffle = np.random.default_rng(seed).permutation
    inliers = []
    for cam_from_rig, camera, keypoints, points in views:
        seen = (cam_from_rig * rig_from_world) * points[shuffle(len(points))]
        ahead = seen[:, 2] > 0 if colmap.is_planar(camera) else np.ones(len(seen), bool)
        inlier = np.zeros(len(seen), bool)
        if ahead.any():
            there = np.asarray(camera.img_from_cam(seen[ahead]), np.float64).reshape(-1, 2)
            # NaN where a fisheye does not see the point: no inlier.
            inlier[ahead] = np.linalg.norm(there - keypoints[ahead], axis=1) <= max_error
        inliers.append(inlier)
    return np.concatenate(inliers)


def _log10_chance(count: int, by_chance: Sequence[int], num: int) -> float:
    """Return log10 of the probability of as many, as :mod:`disk_hloc.stages.verify` does.

    Args:
        count: cells with an inlier.
        by_chance: how many each shuffle has.
        num: cells with a keypoint.
    """
    if num <= _MINIMAL:
        return 0.0
    rate = min((float(np.mean(by_chance)) + _LEAST_BY_CHANCE) / num, 1.0)
    return log10_tail(count - _MINIMAL, num - _MINIMAL, rate)
