"""Measure which images see the same, and choose tuples of them for training.

The covisibility ratio of two images is what both see, divided by what the image that sees less
sees, as in DISK's release. In its range of 0.5 to 0.8 two images are neither almost equal nor hard
to match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from scipy import sparse
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError

RANGE = (0.5, 0.8)
TUPLE_SIZE = 3
MAX_TUPLES = 10_000

# Up to this number, all tuples are listed and some are chosen; above it, random ones are sampled.
_MAX_LISTED_TUPLES = 200_000


def shared_points(observed: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the ratios from the 3D points of a model.

    Args:
        observed: for each of N images, the ids of the points that it sees; duplicates are ignored.

    Returns:
        (N, N) float64, symmetric; 0 for an image that sees no points, and on the diagonal.
    """
    ids = [np.unique(one) for one in observed]
    images = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    points = np.unique(np.concatenate([*ids, np.zeros(0, np.int64)]), return_inverse=True)[1]
    seen = sparse.csr_array(
        (np.ones(len(points)), (images, points)), shape=(len(ids), int(points.max(initial=-1)) + 1)
    )
    common = (seen @ seen.T).toarray()
    counts = common.diagonal()
    fewer = np.minimum(counts[:, None], counts[None, :])
    ratio = common / np.maximum(fewer, 1)
    np.fill_diagonal(ratio, 0)
    return ratio


def shared_surface(
    depths: Sequence[np.ndarray],
    matrices: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
    *,
    step: int = 8,
    tolerance: float = 0.01,
) -> np.ndarray:
    """Compute the ratios from depth maps: the share of an image's pixels that another image sees.

    A pixel is seen by another image if its 3D point projects into that image, at the depth which
    the image has there. As for points, the larger ratio of the two directions is used.

    Args:
        depths: for each of N images, (H, W) z-depth at the centres of pixels, 0 where unknown.
        matrices: (3, 3) each, in pixels with (0.5, 0.5) at the centre of the first pixel.
        poses: cam_from_world, (3, 4) each, in the unit of the depths.
        step: use one in ``step`` pixels along each axis.
        tolerance: largest relative difference of the two depths.

    Returns:
        (N, N) float64, symmetric; 0 on the diagonal.
    """
    points = [
        unproject(depth, matrix, pose, _grid(depth, step))
        for depth, matrix, pose in zip(depths, matrices, poses, strict=True)
    ]
    count = len(depths)
    share = np.zeros((count, count))
    for j in tqdm(range(count), desc="Covisibility", unit="image", leave=False):
        for i in range(count):
            if i != j and len(points[i]):
                share[i, j] = _seen(points[i], depths[j], matrices[j], poses[j], tolerance).mean()
    return np.maximum(share, share.T)


def unproject(
    depth: np.ndarray, matrix: np.ndarray, pose: np.ndarray, pixels: np.ndarray
) -> np.ndarray:
    """Compute the 3D points of pixels.

    Args:
        depth: (H, W) z-depth at the centres of pixels.
        matrix: (3, 3) intrinsics with (0.5, 0.5) at the centre of the first pixel.
        pose: (3, 4) cam_from_world.
        pixels: (M, 2) int columns and rows.

    Returns:
        (M, 3) float64 in world coordinates.
    """
    column, row = pixels.T
    rays = np.column_stack([pixels + 0.5, np.ones(len(pixels))]) @ np.linalg.inv(matrix).T
    in_camera = rays * depth[row, column].astype(np.float64)[:, None]
    return (in_camera - pose[:, 3]) @ pose[:, :3]


def _grid(depth: np.ndarray, step: int) -> np.ndarray:
    """Return (M, 2) int columns and rows of the pixels of a grid that have a depth."""
    start = step // 2
    row, column = np.nonzero(depth[start::step, start::step] > 0)
    return np.column_stack([column, row]) * step + start


def _seen(
    points: np.ndarray, depth: np.ndarray, matrix: np.ndarray, pose: np.ndarray, tolerance: float
) -> np.ndarray:
    """Return (M,) bool, whether an image sees each of the (M, 3) world points."""
    in_camera = points @ pose[:, :3].T + pose[:, 3]
    distance = in_camera[:, 2]
    seen = distance > 0
    projected = (in_camera @ matrix.T)[seen]
    pixels = np.floor(projected[:, :2] / projected[:, 2:])
    height, width = depth.shape
    inside = ((pixels >= 0) & (pixels < (width, height))).all(axis=1)
    column, row = pixels[inside].astype(np.int64).T
    there = depth[row, column]
    agrees = np.abs(there - distance[seen][inside]) < tolerance * there
    inside[inside] = agrees
    seen[seen] = inside
    return seen


def choose_tuples(
    ratio: np.ndarray,
    *,
    within: tuple[float, float] = RANGE,
    size: int = TUPLE_SIZE,
    limit: int | None = MAX_TUPLES,
    seed: int = 0,
) -> list[list[int]]:
    """Choose tuples of images in which any two have a ratio in a range.

    Args:
        ratio: (N, N), symmetric.
        within: lowest and highest ratio.
        size: number of images in a tuple, at least two.
        limit: maximum number of tuples, chosen at random; None keeps all.
        seed: seed of the random choice.

    Returns:
        Sorted tuples of ``size`` ascending indices.

    Raises:
        DiskHlocError: an option is invalid, or there are no tuples; the message gives the ratios.
    """
    low, high = within
    if size < 2 or not 0 <= low <= high or (limit is not None and limit < 1):
        raise DiskHlocError(
            f"cannot choose up to {limit} tuples of {size} images with ratios of {low} to {high}: "
            "a tuple needs at least two images, and a range begins with its lower end"
        )
    linked = (ratio >= low) & (ratio <= high) & (ratio > 0)
    np.fill_diagonal(linked, False)
    after = [set((np.flatnonzero(linked[i, i + 1 :]) + i + 1).tolist()) for i in range(len(ratio))]
    found = list(islice(_cliques(after, size), _MAX_LISTED_TUPLES + 1))
    if not found:
        values = ratio[np.triu_indices(len(ratio), 1)]
        raise DiskHlocError(
            f"no tuple of {size} of the {len(ratio)} images has covisibility ratios of {low} to "
            f"{high}: {int(linked.sum()) // 2} of {len(values)} pairs do, and the ratios are "
            f"{_quartiles(values)}; give another range or a smaller size of tuples"
        )
    if limit is None:
        found += islice(_cliques(after, size), len(found), None)
    rng = np.random.default_rng(seed)
    if limit is not None and len(found) > _MAX_LISTED_TUPLES:
        found = _sampled(linked, size, limit, rng)
    elif limit is not None and len(found) > limit:
        found = [found[i] for i in rng.choice(len(found), limit, replace=False)]
    return sorted([int(i) for i in one] for one in found)


def _cliques(after: Sequence[set[int]], size: int) -> Iterator[tuple[int, ...]]:
    """Yield all ascending tuples of linked images; ``after[i]`` are the images > i linked to i."""

    def extend(chosen: tuple[int, ...], common: set[int]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == size:
            yield chosen
            return
        for i in sorted(common):
            yield from extend((*chosen, i), common & after[i])

    return extend((), set(range(len(after))))


def _sampled(
    linked: np.ndarray, size: int, limit: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Sample distinct tuples: random pairs, extended by random images that are linked to all."""
    edges = np.argwhere(np.triu(linked))
    found: set[tuple[int, ...]] = set()
    # If few tuples remain to be found, samples repeat; then fewer than ``limit`` are returned.
    for _ in range(20 * limit):
        chosen = list(edges[rng.integers(len(edges))])
        while len(chosen) < size:
            common = np.flatnonzero(linked[chosen].all(axis=0))
            if not len(common):
                break
            chosen.append(rng.choice(common))
        if len(chosen) == size:
            found.add(tuple(sorted(int(i) for i in chosen)))
        if len(found) == limit:
            break
    return list(found)


def _quartiles(values: np.ndarray) -> str:
    if not len(values):
        return "not defined for less than two images"
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{low:.2f}, {middle:.2f} and {high:.2f} at the quartiles"
