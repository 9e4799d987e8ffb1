"""Matches to two-view geometries: which pairs of photos see the same scene, and how.

Mutual nearest neighbours of two unrelated photos are hundreds of matches, and some of them agree
with some epipolar geometry: COLMAP finds 30 to 50 such "inliers" and accepts 15, after having
tried all its trials. So a pair is first tested against chance, which takes some milliseconds, and
COLMAP estimates the geometry of those that pass, from the matches that are not far off.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import poselib
import pycolmap
from tqdm import tqdm

from disk_hloc.binomial import log10_tail
from disk_hloc.geometry import sampson_distances
from disk_hloc.io import colmap
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_best_first
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading
from disk_hloc.log import logger

# COLMAP's largest error of an inlier in pixels, and its smallest number of inliers.
MAX_ERROR_PX = 4.0
MIN_NUM_INLIERS = 15
# How many epipolar geometries are tried on a pair.
NUM_TRIALS = 500
# The largest probability of a pair's inliers, as a power of ten, if matches were pairs of points
# that were drawn independently. Of unrelated photos the best of all trials is at most -11
# (benchmarks/verify.py), since it was chosen for its inliers.
MAX_LOG10_CHANCE = -11.0
# COLMAP gets the matches within this multiple of MAX_ERROR_PX: lenses that are not yet calibrated
# bend epipolar lines.
_MARGIN = 2.0
# This many matches are enough to estimate a geometry with which most matches agree.
_ENOUGH = 300
_MOST = 0.5
# Of matches of which one in ten is wrong, seven are drawn so often that once none of them is.
_MIN_TRIALS = 30
_NUM_SHUFFLES = 8
_MINIMAL = 7  # matches that determine an epipolar geometry
_MAX_THREADS = 16
_MAX_IMAGES_IN_MEMORY = 4096

T = TypeVar("T")
# A camera, and the (N, 2) float64 keypoints of an image in COLMAP's coordinates.
View = tuple[pycolmap.Camera, np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """How well the matches of a pair agree with one epipolar geometry.

    Attributes:
        fundamental: (3, 3), of the points of the first image to lines in the second, or None.
        errors: (N,) Sampson distances in pixels.
        log10_chance: log10 of the probability of as many inliers by chance.
    """

    fundamental: np.ndarray | None
    errors: np.ndarray
    log10_chance: float

    @property
    def is_sound(self) -> bool:
        """Whether the pair is not one of chance."""
        return self.log10_chance <= MAX_LOG10_CHANCE


def agreement(points0: np.ndarray, points1: np.ndarray, *, best_first: bool) -> Agreement:
    """Fit an epipolar geometry to matched points, and test its inliers against chance.

    The geometry is PoseLib's, by LO-RANSAC. The test is that of a-contrario methods (Moisan and
    Stival, "A probabilistic criterion to detect rigid point matches between two images", IJCV
    2004, section 3): N - 7 matches besides the minimal set are inliers with some probability, so
    their number is binomial. That probability is not computed from the area of the images, but is
    the fraction of inliers after the points of the second image were shuffled: it accounts for
    where the keypoints are and where the epipole is.

    Args:
        points0, points1: (N, 2) float64, matched points in pixels.
        best_first: the matches are sorted by their scores, so that PROSAC draws the best first
            (Chum and Matas, CVPR 2005). This finds geometries of which 4 % of the matches are
            inliers, at the cost of any other.
    """
    num = len(points0)
    if num < MIN_NUM_INLIERS:
        return Agreement(None, np.full(num, np.inf), 0.0)
    some = _some(num)
    fundamental = _fundamental(points0[some], points1[some], best_first)
    errors = sampson_distances(points0, points1, fundamental)
    if num > _ENOUGH and not (errors <= MAX_ERROR_PX).mean() >= _MOST:
        fundamental = _fundamental(points0, points1, best_first)
        errors = sampson_distances(points0, points1, fundamental)
    if not np.isfinite(errors).all():
        return Agreement(None, np.full(num, np.inf), 0.0)
    shuffle = np.random.default_rng(colmap.SEED).permutation
    others = np.concatenate([shuffle(num) for _ in range(_NUM_SHUFFLES)])
    shuffled = sampson_distances(np.tile(points0, (_NUM_SHUFFLES, 1)), points1[others], fundamental)
    num_inliers = int((errors <= MAX_ERROR_PX).sum())
    num_by_chance = int((shuffled <= MAX_ERROR_PX).sum())
    # Half an inlier more, since no rate is zero.
    rate = min((num_by_chance + 0.5) / (_NUM_SHUFFLES * num), 1.0)
    return Agreement(fundamental, errors, log10_tail(num_inliers - _MINIMAL, num - _MINIMAL, rate))


def _some(num: int) -> slice:
    """Return at most :data:`_ENOUGH` of some matches, from the first to the last."""
    return slice(None, None, max(1, -(-num // _ENOUGH)))


def _fundamental(points0: np.ndarray, points1: np.ndarray, best_first: bool) -> np.ndarray:
    options = {
        "max_epipolar_error": MAX_ERROR_PX,
        "max_iterations": NUM_TRIALS,
        "min_iterations": _MIN_TRIALS,
        "progressive_sampling": best_first,
        "seed": colmap.SEED,
    }
    return poselib.estimate_fundamental(points0, points1, options, {})[0]


def main(database_path: Path, pairs: Sequence[Pair], *, best_first: bool) -> int:
    """Verify the matches of pairs, and write the two-view geometries.

    Args:
        database_path: a COLMAP database that has keypoints and matches.
        pairs: names of images; those without matches, or with a geometry, are skipped.
        best_first: the matches of each pair are sorted by their scores.

    Returns:
        How many of the pairs got a geometry with :data:`MIN_NUM_INLIERS` inliers or more.
    """
    num_verified = 0
    with (
        pycolmap.Database.open(database_path) as database,
        pycolmap.DatabaseTransaction(database),
        tqdm(total=len(pairs), desc="Verify", unit="pair") as progress,
    ):
        images = {image.name: image for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}

        @lru_cache(_MAX_IMAGES_IN_MEMORY)
        def view(name: str) -> View:
            keypoints = database.read_keypoints(images[name].image_id)
            return cameras[images[name].camera_id], np.asarray(keypoints[:, :2], np.float64)

        def read(pair: Pair) -> Callable[[], pycolmap.TwoViewGeometry] | None:
            ids = images[pair[0]].image_id, images[pair[1]].image_id
            if not database.exists_matches(*ids) or colmap.has_geometry(database, *ids):
                return None
            matches = database.read_matches(*ids)
            return partial(verify_pair, view(pair[0]), view(pair[1]), matches, best_first)

        for (first, second), geometry in _in_threads(read, pairs):
            progress.update()
            if geometry is not None:
                ids = images[first].image_id, images[second].image_id
                database.write_two_view_geometry(*ids, geometry)
                num_verified += len(geometry.inlier_matches) >= MIN_NUM_INLIERS
    logger.info("%d of %d pairs agree geometrically", num_verified, len(pairs))
    return num_verified


def _in_threads(
    read: Callable[[Pair], Callable[[], T] | None], pairs: Iterable[Pair]
) -> Iterator[tuple[Pair, T | None]]:
    """Read pairs in this thread and estimate in others; yield in the order of the pairs."""
    num_threads = min(os.cpu_count() or 1, _MAX_THREADS)
    waiting: deque[tuple[Pair, Future[T] | None]] = deque()

    def first() -> tuple[Pair, T | None]:
        pair, future = waiting.popleft()
        return pair, None if future is None else future.result()

    with ThreadPoolExecutor(num_threads) as threads:
        for pair in pairs:
            estimate = read(pair)
            waiting.append((pair, None if estimate is None else threads.submit(estimate)))
            if len(waiting) > 4 * num_threads:
                yield first()
        while waiting:
            yield first()


def sound_pairs(pairs: Sequence[Pair], feature_path: Path, match_path: Path) -> list[Pair]:
    """Return the pairs whose matches are not those of chance, without a database.

    Args:
        pairs: the pairs to test.
        feature_path: their features.
        match_path: their matches.
    """
    chances = chances_of(pairs, feature_path, match_path, feature_path)
    sound = [
        pair for pair, chance in zip(pairs, chances, strict=True) if chance <= MAX_LOG10_CHANCE
    ]
    logger.info("%d of %d pairs are not those of chance", len(sound), len(pairs))
    return sound


def chances_of(
    pairs: Sequence[Pair], feature_path: Path, match_path: Path, reference_path: Path
) -> list[float]:
    """Return each pair's :attr:`Agreement.log10_chance`, from files of hloc's formats.

    Args:
        pairs: the pairs to test.
        feature_path, reference_path: features of the first and the second image of each.
        match_path: their matches; a pair that it lacks has 0.
    """
    with (
        reading(feature_path) as features,
        reading(reference_path) as references,
        reading(match_path) as stored,
    ):

        @lru_cache(_MAX_IMAGES_IN_MEMORY)
        def points(name: str, is_reference: bool) -> np.ndarray:
            file = references if is_reference else features
            return read_keypoints(file, name).astype(np.float64)

        def read(pair: Pair) -> Callable[[], Agreement] | None:
            matches, scored = read_best_first(stored, *pair)
            if matches is None:
                return None
            both = points(pair[0], False)[matches[:, 0]], points(pair[1], True)[matches[:, 1]]
            return partial(agreement, *both, best_first=scored)

        tested = tqdm(_in_threads(read, pairs), total=len(pairs), desc="Test", unit="pair")
        return [0.0 if found is None else found.log10_chance for _, found in tested]


def verify_pair(
    first: View, second: View, matches: np.ndarray, best_first: bool
) -> pycolmap.TwoViewGeometry:
    """Return COLMAP's geometry of a pair, estimated from the matches that pass the test of chance.

    Args:
        first, second: the images.
        matches: (K, 2) uint32 indices of keypoints.
        best_first: they are sorted by their scores.

    Returns:
        The geometry; without matches if the pair is one of chance.
    """
    points0, points1 = first[1][matches[:, 0]], second[1][matches[:, 1]]
    # Epipolar lines of fisheye lenses and panoramas are curves: their pairs are COLMAP's alone.
    if not (colmap.is_planar(first[0]) and colmap.is_planar(second[0])):
        return _usable(_estimate(first, second, matches))
    found = agreement(points0, points1, best_first=best_first)
    if not found.is_sound:
        return pycolmap.TwoViewGeometry()
    near = found.errors <= _MARGIN * MAX_ERROR_PX
    matches, errors = matches[near], found.errors[near]
    some = matches[_some(len(matches))]
    geometry = _estimate(first, second, some, min_num_trials=_MIN_TRIALS)
    if len(some) < len(matches) and len(geometry.inlier_matches) >= MIN_NUM_INLIERS:
        measured = _errors(first, second, matches, geometry)
        geometry.inlier_matches = matches[
            (errors if measured is None else measured) <= MAX_ERROR_PX
        ]
    return _usable(geometry)


def _estimate(
    first: View, second: View, matches: np.ndarray, **ransac: Any
) -> pycolmap.TwoViewGeometry:
    options = pycolmap.TwoViewGeometryOptions(
        ransac={**colmap.VERIFICATION["ransac"], "random_seed": colmap.SEED, **ransac}
    )
    return pycolmap.estimate_two_view_geometry(*first, *second, matches, options)


def _usable(geometry: pycolmap.TwoViewGeometry) -> pycolmap.TwoViewGeometry:
    """Return the geometry, or one without matches where COLMAP would not use it."""
    few = len(geometry.inlier_matches) < MIN_NUM_INLIERS
    return pycolmap.TwoViewGeometry() if few else geometry


def _errors(
    first: View, second: View, matches: np.ndarray, geometry: pycolmap.TwoViewGeometry
) -> np.ndarray | None:
    """Return the Sampson distances of matches in pixels, as COLMAP measures them.

    It takes the essential matrix of undistorted rays where both focal lengths are known, and the
    fundamental matrix of points elsewhere. None if the geometry has neither: photos of a plane.
    """
    points0, points1 = first[1][matches[:, 0]], second[1][matches[:, 1]]
    cameras = first[0], second[0]
    if not all(camera.has_prior_focal_length for camera in cameras):
        return None if geometry.F is None else sampson_distances(points0, points1, geometry.F)
    if geometry.E is None:
        return None
    rays0, rays1 = (
        colmap.camera_rays(*view) for view in zip(cameras, (points0, points1), strict=True)
    )
    per_pixel = float(np.mean([camera.cam_from_img_threshold(1.0) for camera in cameras]))
    return sampson_distances(rays0, rays1, geometry.E) / per_pixel
