"""Exact distances of points to triangles, and points that cover triangles.

The nearest point of a triangle is in its interior or on an edge (Ericson, "Real-Time Collision
Detection", 2005, section 5.1.5). Triangles are found by trees of their centres, one tree for
triangles of about one size, so that a few large ones do not widen the search among many small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

# Points of one query, and pairs of point and triangle of one computation: 150 bytes each.
_CHUNK_POINTS = 1024
_CHUNK_PAIRS = 1 << 18


@dataclass(frozen=True)
class _OfSize:
    """Triangles of about one size: their tree, and the greatest distance centre to corner."""

    tree: cKDTree
    radius: float
    triangles: np.ndarray


class Surface:
    """Triangles that distances are measured to.

    Args:
        points: (N, 3).
        triangles: (M, 3) indices of the points. A triangle without area is the segment or the
            point that it covers.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray) -> None:
        # Near the origin the products of coordinates keep their digits.
        self.origin = points.mean(axis=0, dtype=np.float64)
        self.corners = points.astype(np.float64)[triangles] - self.origin
        centers = self.corners.mean(axis=1)
        radii = np.linalg.norm(self.corners - centers[:, None], axis=2).max(axis=1)
        sizes = np.frexp(radii)[1]
        self._by_size = [
            _OfSize(cKDTree(centers[of_size]), float(radii[of_size].max()), of_size)
            for of_size in (np.flatnonzero(sizes == size) for size in np.unique(sizes))
        ]

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Return the (N,) distances of (N, 3) points to the nearest point of a triangle."""
        found = np.empty(len(points))
        for start in range(0, len(points), _CHUNK_POINTS):
            chunk = points[start : start + _CHUNK_POINTS].astype(np.float64) - self.origin
            found[start : start + _CHUNK_POINTS] = self._distances(chunk)
        return found

    def _distances(self, points: np.ndarray) -> np.ndarray:
        best = np.full(len(points), np.inf)
        everyone = np.arange(len(points))
        for one in self._by_size:
            nearest = one.triangles[one.tree.query(points)[1]]
            np.minimum(best, point_to_triangle(points, self.corners[nearest]), out=best)
        for one in self._by_size:
            reach = best + one.radius
            near = one.tree.query_ball_point(points, reach * (1 + 1e-12), return_sorted=False)
            counts = np.array([len(indices) for indices in near])
            ends = np.cumsum(counts)
            # A point with its candidates is never split, so a step may be larger than the chunk.
            steps = np.flatnonzero(np.diff(ends // _CHUNK_PAIRS, prepend=0, append=-1))
            for first, last in zip([0, *steps[:-1]], steps, strict=True):
                if not counts[first:last].sum():
                    continue
                indices = np.concatenate([np.asarray(i, np.int64) for i in near[first:last]])
                rows = np.repeat(everyone[first:last], counts[first:last])
                triangles = self.corners[one.triangles[indices]]
                np.minimum.at(best, rows, point_to_triangle(points[rows], triangles))
        return best

    def samples(self, spacing: float, block: int, seed: int = 0) -> Iterator[np.ndarray]:
        """Yield points that cover the triangles evenly at random, in blocks of (<= block, 3).

        Each triangle has its area divided by ``spacing`` squared, rounded at random.
        """
        rng = np.random.default_rng(seed)
        expected = self.areas() / spacing**2
        counts = np.floor(expected + rng.random(len(expected))).astype(np.int64)
        ends = np.cumsum(counts)
        for start in range(0, int(ends[-1]), block):
            numbers = np.arange(start, min(start + block, int(ends[-1])))
            corners = self.corners[np.searchsorted(ends, numbers, side="right")]
            a, b = rng.random((2, len(numbers), 1))
            beyond = a + b > 1
            a, b = np.where(beyond, 1 - a, a), np.where(beyond, 1 - b, b)
            sides = corners[:, 1:] - corners[:, :1]
            yield corners[:, 0] + a * sides[:, 0] + b * sides[:, 1] + self.origin

    def areas(self) -> np.ndarray:
        """Return the (M,) areas of the triangles."""
        sides = self.corners[:, 1:] - self.corners[:, :1]
        return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2


def point_to_triangle(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the distances of points to one triangle each.

    Args:
        points: (N, 3).
        corners: (N, 3, 3), the corners of each point's triangle along the second axis.

    Returns:
        (N,) float64.
    """
    squared = np.full(len(points), np.inf)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.einsum("ij,ij->i", normal, normal)
    inside = area > 0
    for i in range(3):
        start = corners[:, i]
        side, offset = corners[:, (i + 1) % 3] - start, points - start
        along = np.einsum("ij,ij->i", side, offset)
        length = np.einsum("ij,ij->i", side, side)
        share = np.divide(along, length, out=np.zeros(len(points)), where=length > 0).clip(0, 1)
        to_edge = offset - share[:, None] * side
        np.minimum(squared, np.einsum("ij,ij->i", to_edge, to_edge), out=squared)
        inside &= np.einsum("ij,ij->i", np.cross(side, offset), normal) >= 0
    height = np.einsum("ij,ij->i", points - corners[:, 0], normal)
    in_plane = np.divide(height**2, area, out=np.zeros(len(points)), where=area > 0)
    return np.sqrt(np.where(inside, in_plane, squared))
