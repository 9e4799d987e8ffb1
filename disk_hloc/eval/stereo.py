"""How well matches, and models, give the relative poses of pairs of images.

The tasks of Jin, Mishkin, Mishchuk, Matas, Fua, Yi, Trulls, "Image Matching across Wide Baselines:
From Paper to Practice", IJCV 2020, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.geometry import Pose, relative_pose
from disk_hloc.io.benchmarks.calibrated_pairs import CalibratedPair
from disk_hloc.io.colmap import poses_of
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading

from .accuracy import pose_error
from .estimators import LEAST_MATCHES, THRESHOLD_PX, estimate_relative_pose


def pair_errors(
    feature_path: Path,
    match_path: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera],
    truth: Mapping[str, Pose],
) -> np.ndarray:
    """Return the pose errors of the pairs whose images both have a known pose.

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
    """Return the matched keypoints of a pair in the pixels of COLMAP's cameras.

    Returns:
        (K, 2) and (K, 2), (0, 0) at the corner of the image; None if the pair is not matched.

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
    threshold: float = THRESHOLD_PX,
    library: str | None = None,
) -> np.ndarray:
    """Return the pose errors of pairs that come with their cameras and relative pose.

    Args:
        feature_path: the features file.
        match_path: the matches file.
        pairs: the pairs.
        threshold, library: see :func:`estimate_relative_pose`.

    Returns:
        (P,) degrees (:func:`pose_error`), infinite where the matches gave no pose or the pair
        is not matched.
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
    """Return errors of the relative poses within a model: the challenge's multi-view task.

    Unlike errors after an alignment, they do not depend on how the cameras are spread.

    Args:
        model: a reconstruction.
        pairs: only those whose images both have a known pose are used.
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
