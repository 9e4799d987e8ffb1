"""Distances between point clouds, and shares that do not depend on how dense a cloud is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError

# Points of which a tree is made, or which one is asked for, at a time: 100 MB with what a tree
# adds to them.
BLOCK = 1 << 20
# Of the two grids of cells, in cells: a cell's edge in one is its middle in the other.
_SHIFTS = (0.0, 0.5)
_MAX_CELLS = 1 << 56


def blocks(points: np.ndarray) -> Iterable[np.ndarray]:
    """Yield (N, 3) points in blocks of :data:`BLOCK`."""
    for start in range(0, len(points), BLOCK):
        yield points[start : start + BLOCK]


def nearest(points: np.ndarray, cloud: np.ndarray, description: str) -> np.ndarray:
    """Return how far points are from the nearest point of a cloud.

    The cloud is taken block by block, so it may be much larger than the memory for its tree.

    Args:
        points: (N, 3).
        cloud: (M, 3), M > 0.
        description: of the progress bar.

    Returns:
        (N,) float64.
    """
    found = np.full(len(points), np.inf)
    count = -(-len(cloud) // BLOCK)
    for start in tqdm(range(count), description, unit="block", disable=count < 2):
        # Each block is the whole scene, thinned out. scipy's cells are not as flat as the walls in
        # them, so a point that is far from all walls of a block is compared with most of it.
        tree = cKDTree(cloud[start::count])
        np.minimum(found, tree.query(points)[0], out=found)
    return found


def levels(distances: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Return the index of the smallest threshold that each distance is within.

    Args:
        distances: (N,).
        thresholds: T of them, ascending.

    Returns:
        (N,) uint8, T where the distance is greater than all.
    """
    return np.searchsorted(thresholds, distances).astype(np.uint8)


def shares_by_cell(
    points: np.ndarray, level: np.ndarray, num_levels: int, cell: float
) -> list[float]:
    """Return the share of points within each threshold, as a mean over cells of space.

    Dense parts of a cloud count no more than others (Schöps et al., CVPR 2017). As in ETH3D's
    program, the mean is over the cells of two grids that are half a cell apart.

    Args:
        points: (N, 3).
        level: (N,), of :func:`levels`.
        num_levels: number of thresholds, T.
        cell: side of a cell in the unit of the points; 0 counts points.

    Returns:
        T shares from 0 to 1; NaN without points.

    Raises:
        DiskHlocError: the cells are too small for the extent of the points.
    """
    if len(points) == 0:
        return [float("nan")] * num_levels
    if cell == 0:
        return [float((level <= i).mean()) for i in range(num_levels)]
    sums, cells = np.zeros(num_levels), 0
    for shift in _SHIFTS:
        keys = _keys(points, cell, shift, num_levels + 1)
        keys += level
        keys.sort()
        starts = np.flatnonzero(np.diff(keys // (num_levels + 1), prepend=-1))
        sorted_levels = (keys % (num_levels + 1)).astype(np.uint8)
        counts = np.diff(starts, append=len(keys))
        for i in range(num_levels):
            sums[i] += (np.add.reduceat(sorted_levels <= i, starts, dtype=np.int64) / counts).sum()
        cells += len(starts)
    return (sums / cells).tolist()


def _keys(points: np.ndarray, cell: float, shift: float, factor: int) -> np.ndarray:
    """Number the cells of points, in steps of ``factor``: (N,) int64."""
    low = np.floor(points.min(axis=0) / cell + shift)
    extent = np.floor(points.max(axis=0) / cell + shift) - low + 1
    if float(np.prod(extent)) * factor > _MAX_CELLS:
        raise DiskHlocError(
            f"cells of {cell:g} are too small for points that extend over "
            f"{np.ptp(points, axis=0).max():g}: make --cell greater"
        )
    keys = np.zeros(len(points), np.int64)
    for axis in range(3):
        keys *= int(extent[axis])
        for start in range(0, len(points), BLOCK):
            part = slice(start, start + BLOCK)
            index = np.floor(points[part, axis].astype(np.float64) / cell + shift) - low[axis]
            keys[part] += np.clip(index, 0, extent[axis] - 1).astype(np.int64)
    keys *= factor
    return keys
