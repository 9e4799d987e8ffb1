"""How often a photo is turned against another by 90 degrees, by votes of their SIFT keypoints.

SIFT's descriptors do not change when a photo is turned, and its keypoints have an orientation, so
one look at each photo is enough, where DISK would have to look at four. Each match of two photos
proposes a similarity, from the places, scales and orientations of its two keypoints, and the other
matches vote for it: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004,
section 7.3, with his bounds of 30 degrees and a factor of 2 in scale. Departure: no bins, so that
no vote is lost at their borders.

Quarter turns are counter-clockwise, as of ``numpy.rot90``.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Photos are looked at in this size. A larger one costs more and finds no more of what matters:
# whether two photos agree at all.
LONGEST_SIDE_PX = 320
MAX_KEYPOINTS = 384
# By chance, no pair of 3,240 had more than 5 for a turn that was wrong (benchmarks/RESULTS.md).
MIN_VOTES = 8
# The best quarter turn has this many times the votes of the next.
_MARGIN = 2.0
# A match's nearest descriptor is nearer than the next by this factor.
_RATIO = 0.85
# Votes for a similarity: differences of orientation, of scale, and of place as a part of the
# longest side. Photos of a scene in depth agree with a similarity only roughly.
_ANGLE_DEGREES = 30.0
_SCALE_OCTAVES = 1.0
_PLACE = 0.1


class Oriented(NamedTuple):
    """Keypoints with their orientations.

    Attributes:
        places: (N, 2) float32 x and y, in units of the photo's longest side.
        octaves: (N,) float32, the scales' logarithms to base 2, in the same units.
        angles: (N,) float32 orientations in degrees, clockwise as seen.
        descriptors: (N, 128) uint8.
    """

    places: NDArray[np.float32]
    octaves: NDArray[np.float32]
    angles: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


def describe(image: np.ndarray, mask: NDArray[np.bool_] | None = None) -> Oriented:
    """Find the strongest SIFT keypoints of a photo.

    Args:
        image: (H, W) uint8, reduced to :data:`LONGEST_SIDE_PX` here if it is larger.
        mask: (H, W), True where keypoints are allowed; None is everywhere.
    """
    allowed: np.ndarray | None = None if mask is None else mask.astype(np.uint8)
    longest = max(image.shape)
    if longest > LONGEST_SIDE_PX:
        scale = LONGEST_SIDE_PX / longest
        height, width = (max(1, round(side * scale)) for side in image.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if allowed is not None:
            allowed = cv2.resize(allowed, (width, height), interpolation=cv2.INTER_NEAREST)
    sift = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.02)
    found, descriptors = sift.detectAndCompute(image, allowed)
    if descriptors is None:
        descriptors = np.zeros((0, 128), np.float32)
    values = np.array([(*one.pt, one.size, one.angle) for one in found], np.float32).reshape(-1, 4)
    size = np.float32(max(image.shape))
    return Oriented(
        values[:, :2] / size,
        np.log2(values[:, 2] / size),
        values[:, 3],
        descriptors.astype(np.uint8),
    )


def comparable(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 128) float32 RootSIFT of SIFT's descriptors: of unit length, zero for zero."""
    values = descriptors.astype(np.float32)
    rooted: NDArray[np.float32] = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
    return rooted


def votes(first: Oriented, second: Oriented) -> NDArray[np.int64]:
    """Count the matches that agree on each quarter turn.

    Returns:
        (4,) int64: at k the largest number of matches, at different places, that agree on a
        similarity by which the second photo has to be turned k quarters more than the first for
        both to be the same way up.
    """
    counted = np.zeros(4, np.int64)
    a, b = _match(comparable(first.descriptors), comparable(second.descriptors))
    # A place with several orientations votes once.
    _, once = np.unique(first.places[a], axis=0, return_index=True)
    a, b = a[np.sort(once)], b[np.sort(once)]
    if len(a) < 2:
        return counted
    turned = second.angles[b] - first.angles[a]
    grown = second.octaves[b] - first.octaves[a]
    radians = np.deg2rad(turned)
    # y points down, so that this turns clockwise as seen.
    factor = (np.exp2(grown) * np.exp(1j * radians))[:, None]
    here = first.places[a] @ np.array([1, 1j])
    there = second.places[b] @ np.array([1, 1j])
    moved = there[:, None] + factor * (here[None] - here[:, None])
    agree = np.abs(moved - there[None]) < _PLACE * np.maximum(1, np.abs(factor))
    agree &= np.abs(_wrapped(turned[None] - turned[:, None])) < _ANGLE_DEGREES
    agree &= np.abs(grown[None] - grown[:, None]) < _SCALE_OCTAVES
    quarters = np.round(turned / 90).astype(np.int64) % 4
    np.maximum.at(counted, quarters, agree.sum(axis=1))
    return counted


def clear_turn(counted: NDArray[np.int64]) -> int | None:
    """Return the quarter turn that votes agree on; None if they do not."""
    order = np.argsort(-counted, kind="stable")
    best, next_best = counted[order[:2]]
    if best < MIN_VOTES or best < _MARGIN * next_best:
        return None
    return int(order[0])


def _match(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of mutual nearest neighbours that are clearly nearer than the next."""
    if min(len(first), len(second)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cosines = first @ second.T
    nearest = cosines.argmax(axis=1)
    index = np.arange(len(first))
    mutual = np.flatnonzero(cosines.argmax(axis=0)[nearest] == index)
    two = np.partition(cosines[mutual], -2, axis=1)[:, -2:]
    clear = (1 - two[:, 1]) < _RATIO**2 * (1 - two[:, 0])
    kept = mutual[clear]
    return kept, nearest[kept]


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180) % 360 - 180
