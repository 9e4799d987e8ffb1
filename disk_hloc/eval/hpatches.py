"""Figures of features and matches on HPatches (:mod:`disk_hloc.io.benchmarks.hpatches`).

The measures are those of :mod:`disk_hloc.eval.planes`. MMA and repeatability are averaged over
pairs. Corner errors give the area under the share of pairs within a threshold, as
:func:`disk_hloc.eval.accuracy.auc`. Photos and errors are in full size; LightGlue's figures are of
photos resized to 480 px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.benchmarks.hpatches import KINDS, kind_of
from disk_hloc.io.hloc.features import read_image_size, read_keypoints, require_features
from disk_hloc.io.hloc.matches import find_pair, read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading

from .accuracy import auc
from .planes import THRESHOLDS_PX, corner_error, matching_accuracy, repeatability

Figures = dict[str, Any]

CORNER_LIMITS_PX = (1, 3, 5)
DIGITS = 4
# Of the accuracies in the MMA score: from 1.9 at 1 px to 1 at 10 px.
_SCORE_WEIGHTS = 2 - np.array(THRESHOLDS_PX) / 10


def evaluate(
    feature_path: Path, match_path: Path, homographies: Mapping[Pair, np.ndarray]
) -> Figures:
    """Return the figures of features and matches.

    Args:
        feature_path: any hloc features file, with ``image_size``.
        match_path: any hloc matches file.
        homographies: of the pairs (:func:`read_scenes`).

    Returns:
        ``keypoints`` (mean of an image), ``matches`` (mean of a pair); and by kind, which is
        ``illumination``, ``viewpoint`` and ``all``: ``pairs``; ``mma``, a list for the thresholds
        of :mod:`disk_hloc.eval.planes`; ``mma_score`` (:func:`mma_score`); ``homography_auc`` by
        corner error in pixels; ``repeatability``.

    Raises:
        DiskHlocError: an image has no features, or a pair has no matches.
    """
    names = sorted({name for pair in homographies for name in pair})
    require_features(feature_path, names, "are in the data set", "image_size")
    accuracies, corners, repeated, num_matches = [], [], [], []
    with reading(feature_path) as features, reading(match_path) as file:
        unmatched = [" ".join(pair) for pair in homographies if find_pair(file, *pair) is None]
        if unmatched:
            raise DiskHlocError(
                f"{match_path} does not have {len(unmatched)} pairs of the data set: "
                f"{listing(unmatched)}; match them first"
            )
        keypoints = {name: read_keypoints(features, name).astype(np.float64) for name in names}
        sizes = {name: read_image_size(features, name) for name in names}
        for pair, homography in tqdm(homographies.items(), desc="HPatches", unit="pair"):
            counts = len(keypoints[pair[0]]), len(keypoints[pair[1]])
            matches = read_matches(file, *pair, counts)
            assert matches is not None
            all0, all1 = keypoints[pair[0]], keypoints[pair[1]]
            points0, points1 = all0[matches[:, 0]], all1[matches[:, 1]]
            num_matches.append(len(matches))
            accuracies.append(matching_accuracy(points0, points1, homography))
            corners.append(corner_error(points0, points1, homography, sizes[pair[0]]))
            repeated.append(repeatability(all0, all1, homography, sizes[pair[0]], sizes[pair[1]]))
    kinds = [kind_of(pair) for pair in homographies]
    mma = {kind: np.array(accuracies)[which].mean(axis=0) for kind, which in by_kind(kinds).items()}
    return {
        "keypoints": round(float(np.mean([len(one) for one in keypoints.values()])), 1),
        "matches": round(float(np.mean(num_matches)), 1),
        "pairs": {kind: int(which.sum()) for kind, which in by_kind(kinds).items()},
        "mma": {kind: rounded(values) for kind, values in mma.items()},
        "mma_score": {kind: mma_score(values) for kind, values in mma.items()},
        "homography_auc": {
            kind: {
                str(limit): round(auc(np.array(corners)[which], limit), DIGITS)
                for limit in CORNER_LIMITS_PX
            }
            for kind, which in by_kind(kinds).items()
        },
        "repeatability": {
            kind: mean_of_known(np.array(repeated)[which]) for kind, which in by_kind(kinds).items()
        },
    }


def mma_score(mma: np.ndarray) -> float:
    """Return the MMA of all thresholds as one number, in which strict thresholds weigh more.

    Li, Wang, Liu, Ran, Xu, Guo, "Decoupling makes weakly supervised local feature better"
    (PoSFeat), CVPR 2022: a mean with the weights 2 - t / 10 for the thresholds t = 1 ... 10 px.

    Args:
        mma: (T,) of :data:`disk_hloc.eval.planes.THRESHOLDS_PX`.

    Returns:
        0 to 1.
    """
    return round(float(np.average(mma, weights=_SCORE_WEIGHTS)), DIGITS)


def by_kind(kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """Return which pairs are of each kind, of those that occur, and ``all``: (P,) bool."""
    found = {kind: np.array([one == kind for one in kinds], bool) for kind in KINDS}
    present = {kind: which for kind, which in found.items() if which.any()}
    return {**present, "all": np.ones(len(kinds), bool)}


def mean_of_known(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not NaN; None if all are."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), DIGITS) if len(known) else None


def rounded(values: np.ndarray) -> list[float]:
    """Return values with the digits that results are written with."""
    return [round(float(value), DIGITS) for value in values]
