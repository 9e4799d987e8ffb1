"""Features and matches on HPatches: photos of a plane, and the homographies between them.

Balntas, Lenc, Vedaldi, Mikolajczyk, "HPatches: A benchmark and evaluation of handcrafted and
learned local descriptors", CVPR 2017. A scene is a folder ``i_<name>`` (the light changes) or
``v_<name>`` (the viewpoint changes) with ``1.ppm`` to ``6.ppm`` and ``H_1_2`` to ``H_1_6``, text
files of (3, 3) homographies that take pixels of the first photo to those of the other, (0, 0) at
the centre of the top-left pixel.

- The matching accuracy (MMA) is D2-Net's (CVPR 2019, section 5.1; DISK's section 4.1): the share
  of a pair's matches that are within a threshold of where the homography puts them, averaged over
  pairs. A pair without matches counts as 0.
- The homography's accuracy is SuperPoint's (DeTone, Malisiewicz, Rabinovich, CVPRW 2018): the mean
  distance of the first photo's corners under the estimated homography (OpenCV's RANSAC) and the
  true one, and the area under its share within a threshold, as :func:`disk_hloc.eval.accuracy.auc`.
  Photos and errors are in full size; LightGlue's figures are of photos resized to 480 px.
- Repeatability is SuperPoint's: of the keypoints of both photos that the other photo sees, the
  share that has a keypoint of the other within 3 px.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial import KDTree
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.hloc.features import read_image_size, read_keypoints, require_features
from disk_hloc.io.hloc.matches import find_pair, read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading
from disk_hloc.io.text import read_text

from . import accuracy

Figures = dict[str, Any]

KINDS = ("illumination", "viewpoint")
# In pixels.
THRESHOLDS = tuple(range(1, 11))
CORNER_LIMITS = (1, 3, 5)
REPEATED_WITHIN = 3.0
RANSAC_THRESHOLD = 3.0
# D2-Net leaves them out: their photos are so large that not all methods could run on them.
LEFT_OUT = (
    "i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding",
    "v_artisans", "v_astronautis", "v_talent",
)  # fmt: skip
# Of the scenes' photos.
NUMBERS = range(2, 7)
DIGITS = 4


def read_scenes(folder: Path) -> dict[Pair, np.ndarray]:
    """The pairs of a data set and their homographies.

    Args:
        folder: of scenes ``i_*`` and ``v_*``; those of :data:`LEFT_OUT` are passed over.

    Returns:
        ``("i_ajuntament/1.ppm", "i_ajuntament/2.ppm")`` -> (3, 3) float64, ``1_to_2``, scene by
        scene.

    Raises:
        DiskHlocError: no such folder, no scene in it, or a scene lacks a photo or homography.
    """
    if not folder.is_dir():
        raise DiskHlocError(f"there is no folder {folder}")
    scenes = sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name[:2] in ("i_", "v_") and path.name not in LEFT_OUT
    )
    if not scenes:
        raise DiskHlocError(
            f"{folder} has no scene: folders i_* or v_* with 1.ppm to 6.ppm and H_1_2 to H_1_6; "
            "give the folder of HPatches' sequences"
        )
    missing = [
        f"{scene.name}/{number}.ppm"
        for scene in scenes
        for number in (1, *NUMBERS)
        if not (scene / f"{number}.ppm").is_file()
    ]
    if missing:
        raise DiskHlocError(f"{folder} lacks {listing(missing)}: unpack HPatches anew")
    return {
        (f"{scene.name}/1.ppm", f"{scene.name}/{number}.ppm"): read_homography(
            scene / f"H_1_{number}"
        )
        for scene in scenes
        for number in NUMBERS
    }


def read_homography(path: Path) -> np.ndarray:
    """(3, 3) float64 of a text file.

    Raises:
        DiskHlocError: the file cannot be read, or is no invertible matrix of that shape.
    """
    try:
        matrix = np.array(read_text(path, "the homography").split(), np.float64)
    except ValueError as error:
        raise DiskHlocError(f"cannot read the homography {path}: {error}") from error
    if matrix.size != 9 or not np.isfinite(matrix).all():
        matrix = np.zeros(9)
    if not np.linalg.det(matrix.reshape(3, 3)):
        raise DiskHlocError(f"{path} is no homography: 9 numbers, of an invertible matrix")
    return matrix.reshape(3, 3)


def kind_of(pair: Pair) -> str:
    """``illumination`` or ``viewpoint``, by the scene's name."""
    return KINDS[0] if pair[0].startswith("i_") else KINDS[1]


def evaluate(
    feature_path: Path, match_path: Path, homographies: Mapping[Pair, np.ndarray]
) -> Figures:
    """Figures of features and matches.

    Args:
        feature_path: any hloc features file, with ``image_size``.
        match_path: any hloc matches file.
        homographies: of the pairs (:func:`read_scenes`).

    Returns:
        ``keypoints`` (mean of an image), ``matches`` (mean of a pair); and by kind, that is
        ``illumination``, ``viewpoint`` and ``all``: ``pairs``; ``mma``, a list for the
        :data:`THRESHOLDS`; ``homography_auc`` by corner error in pixels; ``repeatability``.

    Raises:
        DiskHlocError: an image has no features, or a pair no matches.
    """
    names = sorted({name for pair in homographies for name in pair})
    require_features(feature_path, names, because="are in the data set")
    accuracies, corners, repeated, num_matches = [], [], [], []
    with reading(feature_path) as features, reading(match_path) as file:
        unmatched = [" ".join(pair) for pair in homographies if find_pair(file, *pair) is None]
        if unmatched:
            raise DiskHlocError(
                f"{match_path} lacks {len(unmatched)} pairs of the data set: {listing(unmatched)}; "
                "match them first"
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
    return {
        "keypoints": round(float(np.mean([len(one) for one in keypoints.values()])), 1),
        "matches": round(float(np.mean(num_matches)), 1),
        "pairs": {kind: int(which.sum()) for kind, which in by_kind(kinds).items()},
        "mma": {
            kind: rounded(np.array(accuracies)[which].mean(axis=0))
            for kind, which in by_kind(kinds).items()
        },
        "homography_auc": {
            kind: {
                str(limit): round(accuracy.auc(np.array(corners)[which], limit), DIGITS)
                for limit in CORNER_LIMITS
            }
            for kind, which in by_kind(kinds).items()
        },
        "repeatability": {
            kind: mean_of_known(np.array(repeated)[which]) for kind, which in by_kind(kinds).items()
        },
    }


def by_kind(kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """Which pairs are of each kind that there is, and ``all``: (P,) bool."""
    found = {kind: np.array([one == kind for one in kinds], bool) for kind in KINDS}
    present = {kind: which for kind, which in found.items() if which.any()}
    return {**present, "all": np.ones(len(kinds), bool)}


def transfer(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points under a homography.

    Args:
        homography: (3, 3).
        points: (N, 2) pixels.

    Returns:
        (N, 2) pixels, infinite for a point that goes to the horizon or beyond it.
    """
    moved = np.column_stack([points, np.ones(len(points))]) @ (homography / homography[2, 2]).T
    w = np.where(moved[:, 2:] > 0, moved[:, 2:], np.nan)
    return np.nan_to_num(moved[:, :2] / w, nan=np.inf)


def matching_accuracy(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray
) -> np.ndarray:
    """The share of matches within each of the :data:`THRESHOLDS`, in the second photo.

    Args:
        points0: (K, 2) pixels.
        points1: (K, 2), of the same matches.
        homography: (3, 3), ``1_from_0``.

    Returns:
        (T,) 0 to 1; 0 without matches.
    """
    if len(points0) == 0:
        return np.zeros(len(THRESHOLDS))
    errors = np.linalg.norm(transfer(homography, points0) - points1, axis=1)
    return (errors[:, None] <= np.array(THRESHOLDS)).mean(axis=0)


def corner_error(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, size: Iterable[int]
) -> float:
    """The mean distance of the corners under the homography that the matches give.

    Args:
        points0: (K, 2) pixels.
        points1: (K, 2), of the same matches.
        homography: (3, 3), ``1_from_0``, the true one.
        size: width and height of the first photo in pixels.

    Returns:
        Pixels in the second photo, infinite where the matches give no homography.
    """
    if len(points0) < 4:
        return float("inf")
    estimated, _ = cv2.findHomography(points0, points1, cv2.RANSAC, RANSAC_THRESHOLD)
    if estimated is None:
        return float("inf")
    width, height = size
    right, bottom = width - 1.0, height - 1.0
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    error = np.linalg.norm(transfer(estimated, corners) - transfer(homography, corners), axis=1)
    return float(np.nan_to_num(error.mean(), nan=np.inf))


def repeatability(
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    size0: Iterable[int],
    size1: Iterable[int],
    within: float = REPEATED_WITHIN,
) -> float:
    """The share of the keypoints in common view that the other photo has too.

    Args:
        keypoints0: (N, 2) pixels.
        keypoints1: (M, 2) pixels.
        homography: (3, 3), ``1_from_0``.
        size0, size1: width and height in pixels.
        within: pixels, in the photo that the keypoints are taken to.

    Returns:
        0 to 1, NaN where no keypoint is in common view.
    """
    seen = found = 0
    for source, target, matrix, size in (
        (keypoints0, keypoints1, homography, size1),
        (keypoints1, keypoints0, np.linalg.inv(homography), size0),
    ):
        moved = transfer(matrix, source)
        moved = moved[inside(moved, size)]
        seen += len(moved)
        if len(moved) and len(target):
            found += int((KDTree(target).query(moved)[0] <= within).sum())
    return found / seen if seen else float("nan")


def inside(points: np.ndarray, size: Iterable[int]) -> np.ndarray:
    """(N,) bool, whether (N, 2) points are on the pixels of a photo of a width and height."""
    return np.all((points >= -0.5) & (points < np.array([*size]) - 0.5), axis=1)


def mean_of_known(values: np.ndarray) -> float | None:
    """The mean of those that are numbers; None if none is."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), DIGITS) if len(known) else None


def rounded(values: np.ndarray) -> list[float]:
    """To the digits that results are written with."""
    return [round(float(value), DIGITS) for value in values]
