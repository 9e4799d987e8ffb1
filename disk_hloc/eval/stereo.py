"""How well matches give the relative pose of two calibrated images.

The stereo task of Jin, Mishkin, Mishchuk, Matas, Fua, Yi, Trulls, "Image Matching across Wide
Baselines: From Paper to Practice", IJCV 2020, section 4.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose, angle_between, relative_pose, rotation_angle
from disk_hloc.io.benchmarks.calibrated_pairs import CalibratedPair
from disk_hloc.io.colmap import poses_of
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading

# In degrees.
LIMITS = (1, 2, 5, 10)
# Of a match from its epipolar line, in pixels.
THRESHOLD = 1.0
# The five-point solver's.
LEAST_MATCHES = 5


def estimator() -> str:
    """Who estimates the relative poses: ``poselib`` where it is installed, else ``pycolmap``."""
    return "poselib" if importlib.util.find_spec("poselib") else "pycolmap"


def pair_errors(
    feature_path: Path,
    match_path: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera],
    truth: Mapping[str, Pose],
) -> np.ndarray:
    """Pose errors of the pairs whose images both have a known pose.

    Args:
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs, all of them matched.
        cameras: image name -> camera.
        truth: image name -> known pose.

    Returns:
        (P,) degrees (:func:`pose_error`), infinite where the matches gave no pose.
    """
    known = [
        CalibratedPair(
            (name0, name1),
            cameras[name0],
            cameras[name1],
            *relative_pose(truth[name0], truth[name1]),
        )
        for name0, name1 in pairs
        if name0 in truth and name1 in truth
    ]
    return calibrated_pair_errors(feature_path, match_path, known)


def matched_points(
    features: h5py.File, matches: h5py.File, pair: Pair
) -> tuple[np.ndarray, np.ndarray] | None:
    """The matched keypoints of a pair, in COLMAP's pixels, in which cameras are.

    Returns:
        (K, 2) and (K, 2), (0, 0) at the corner of the image; None without matches of the pair.

    Raises:
        DiskHlocError: the matches were made from other features, or a file is broken.
    """
    keypoints0, keypoints1 = (read_keypoints(features, name) for name in pair)
    matched = read_matches(matches, *pair, (len(keypoints0), len(keypoints1)))
    if matched is None:
        return None
    return keypoints0[matched[:, 0]] + 0.5, keypoints1[matched[:, 1]] + 0.5


def calibrated_pair_errors(
    feature_path: Path,
    match_path: Path,
    pairs: Sequence[CalibratedPair],
    threshold: float = THRESHOLD,
    library: str | None = None,
) -> np.ndarray:
    """Pose errors of pairs that bring their cameras and relative pose.

    Args:
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs.
        threshold, library: see :func:`estimate_relative_pose`.

    Returns:
        (P,) degrees (:func:`pose_error`), infinite where the matches gave no pose or there are
        none.
    """
    errors = np.full(len(pairs), np.inf)
    with reading(feature_path) as features, reading(match_path) as matches:
        for i, pair in enumerate(tqdm(pairs, desc="Stereo", unit="pair")):
            points = matched_points(features, matches, pair.names)
            if points is None or len(points[0]) < LEAST_MATCHES:
                continue
            found = estimate_relative_pose(*points, pair.camera0, pair.camera1, threshold, library)
            if found is not None:
                errors[i] = pose_error(*found, pair.rotation, pair.translation)
    return errors


def model_pair_errors(
    model: pycolmap.Reconstruction, pairs: Sequence[Pair], truth: Mapping[str, Pose]
) -> np.ndarray:
    """Errors of the relative poses within a model: the challenge's multi-view task.

    Unlike errors after an alignment they do not depend on how the cameras are spread.

    Args:
        model: a reconstruction.
        pairs: those whose images both have a known pose are judged.
        truth: image name -> known pose.

    Returns:
        (P,) degrees (:func:`pose_error`), infinite where an image is not registered.
    """
    estimated = poses_of(model)
    known = [pair for pair in pairs if pair[0] in truth and pair[1] in truth]
    errors = np.full(len(known), np.inf)
    for i, (name0, name1) in enumerate(known):
        if name0 in estimated and name1 in estimated:
            found = relative_pose(estimated[name0], estimated[name1])
            errors[i] = pose_error(*found, *relative_pose(truth[name0], truth[name1]))
    return errors


def estimate_relative_pose(
    points0: np.ndarray,
    points1: np.ndarray,
    camera0: pycolmap.Camera,
    camera1: pycolmap.Camera,
    threshold: float = THRESHOLD,
    library: str | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimate a relative pose with RANSAC; the same numbers for the same points.

    Args:
        points0: (K, 2) pixels, COLMAP's: (0, 0) at the corner of the image.
        points1: (K, 2), likewise, of the same matches.
        camera0, camera1: the cameras.
        threshold: of an inlier from its epipolar line, in pixels.
        library: ``poselib`` or ``pycolmap``; None takes :func:`estimator`.

    Returns:
        (3, 3) rotation and (3,) direction of the translation of ``cam1_from_cam0``; None where
        there is none.

    Raises:
        DiskHlocError: an unknown library, or one that is not installed.
    """
    points0, points1 = (np.asarray(points, np.float64) for points in (points0, points1))
    if len(points0) < LEAST_MATCHES:
        return None
    library = library or estimator()
    if library not in ("poselib", "pycolmap"):
        raise DiskHlocError(f"no estimator is called {library!r}; known: poselib, pycolmap")
    if library == "poselib":
        try:
            import poselib
        except ImportError as error:
            raise DiskHlocError("PoseLib is not installed: pip install poselib") from error

        pose, info = poselib.estimate_relative_pose(
            points0,
            points1,
            _poselib_camera(camera0),
            _poselib_camera(camera1),
            {"max_epipolar_error": threshold},
            {},
        )
        return (np.asarray(pose.R), np.asarray(pose.t)) if info["num_inliers"] else None
    pycolmap.set_random_seed(0)
    found = pycolmap.estimate_essential_matrix(
        points0, points1, camera0, camera1, {"max_error": threshold}
    )
    if found is None:
        return None
    pose = found["cam2_from_cam1"]
    return pose.rotation.matrix(), np.asarray(pose.translation)


def pose_error(
    rotation: np.ndarray,
    translation: np.ndarray,
    true_rotation: np.ndarray,
    true_translation: np.ndarray,
) -> float:
    """The greater of the rotation's error and that of the translation's direction, in degrees.

    The sign of the translation is not judged, as in the Image Matching Challenge.

    Args:
        rotation: (3, 3).
        translation: (3,), of any length.
        true_rotation: (3, 3).
        true_translation: (3,), of any length.
    """
    direction = float(angle_between(translation, true_translation))
    return max(rotation_angle(rotation @ true_rotation.T), min(direction, 180 - direction))


def mean_accuracy(errors: np.ndarray, limit: float) -> float:
    """The challenge's mAA: the share of errors within a threshold, averaged over thresholds.

    Args:
        errors: (P,) degrees.
        limit: the greatest threshold in degrees; the others lie a degree apart, a tenth of
            ``limit`` where that is below 5.

    Returns:
        0 to 1, NaN without errors.
    """
    if len(errors) == 0:
        return float("nan")
    steps = round(limit) if limit >= 5 else 10
    thresholds = limit * np.arange(1, steps + 1) / steps
    return float((np.asarray(errors)[:, None] <= thresholds).mean())


def auc(errors: np.ndarray, limit: float) -> float:
    """The area under the share of errors within a threshold, from 0 to ``limit``, over ``limit``.

    What :func:`mean_accuracy` tends to with ever more thresholds; an error of e adds
    max(0, 1 - e / limit) to it. (SuperGlue's and LightGlue's AUC joins the steps by straight
    lines, which gives slightly more.)

    Args:
        errors: (P,) degrees.
        limit: in degrees.

    Returns:
        0 to 1, NaN without errors.
    """
    if len(errors) == 0:
        return float("nan")
    return float(np.clip(1 - np.asarray(errors) / limit, 0, None).mean())


def _poselib_camera(camera: pycolmap.Camera) -> dict[str, object]:
    return {
        "model": str(camera.model).rpartition(".")[2],
        "width": camera.width,
        "height": camera.height,
        "params": list(camera.params),
    }
