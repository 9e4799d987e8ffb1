"""Which images see the same, and tuples of them to train on.

Of two images, the ratio is that of what both see to what the one that sees less does, which is the
measure of DISK's release. At 0.5 to 0.8, its range, they are neither nearly the same picture nor
hardly to be matched.
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

# Up to so many tuples are listed before some are chosen; of more, random ones are drawn.
_LISTED = 200_000


def shared_points(observed: Sequence[np.ndarray]) -> np.ndarray:
    """Ratios by the points of a model.

    Args:
        observed: for each of N images, the ids of the points that it sees; each counts once.

    Returns:
        (N, N) float64, symmetric; 0 where an image sees none, and on the diagonal.
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
    """Ratios by depth: of one image's pixels, how many another sees too.

    A pixel is seen by another image if the point that it shows lies in the image and at the depth
    that the image has there. Of the two directions the greater counts, as of points.

    Args:
        depths: for each of N images, (H, W) z-depth at the pixels' centres, 0 where it is unknown.
        matrices: (3, 3) each, pixels, (0.5, 0.5) at the centre of the first pixel.
        poses: cam_from_world, (3, 4) each, in the unit of the depths.
        step: of the pixels of each row and column, one in so many is looked at.
        tolerance: by which the two depths may differ, as a share of them.

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
    """The world points (M, 3) that pixels show, given (M, 2) int column and row of each."""
    column, row = pixels.T
    rays = np.column_stack([pixels + 0.5, np.ones(len(pixels))]) @ np.linalg.inv(matrix).T
    in_camera = rays * depth[row, column].astype(np.float64)[:, None]
    return (in_camera - pose[:, 3]) @ pose[:, :3]


def _grid(depth: np.ndarray, step: int) -> np.ndarray:
    """(M, 2) int column and row of each pixel of a grid whose depth is known."""
    start = step // 2
    row, column = np.nonzero(depth[start::step, start::step] > 0)
    return np.column_stack([column, row]) * step + start


def _seen(
    points: np.ndarray, depth: np.ndarray, matrix: np.ndarray, pose: np.ndarray, tolerance: float
) -> np.ndarray:
    """(M,) bool, whether world points are seen by an image."""
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
    """Tuples of images of which any two share what ``within`` asks.

    Args:
        ratio: (N, N), symmetric.
        within: the least and the greatest ratio.
        size: how many images a tuple has, two at least.
        limit: so many at most, chosen at random; None keeps all.
        seed: of the choice.

    Returns:
        Ascending indices, ``size`` each, sorted.

    Raises:
        DiskHlocError: an impossible option, or no tuple; the message says what the ratios are.
    """
    low, high = within
    if size < 2 or not 0 <= low <= high or (limit is not None and limit < 1):
        raise DiskHlocError(
            f"no tuples of {size} images with {low} to {high} in common, {limit} at most, can be "
            "asked for: a tuple has two images or more, a range its lower end first"
        )
    linked = (ratio >= low) & (ratio <= high) & (ratio > 0)
    np.fill_diagonal(linked, False)
    after = [set((np.flatnonzero(linked[i, i + 1 :]) + i + 1).tolist()) for i in range(len(ratio))]
    found = list(islice(_cliques(after, size), _LISTED + 1))
    if not found:
        values = ratio[np.triu_indices(len(ratio), 1)]
        raise DiskHlocError(
            f"no {size} of {len(ratio)} images have {low} to {high} of what they see in common, "
            f"two by two: {int(linked.sum()) // 2} of {len(values)} pairs do, and the ratios are "
            f"{_quartiles(values)}; give another range, or tuples of fewer images"
        )
    if limit is None:
        found += islice(_cliques(after, size), len(found), None)
    rng = np.random.default_rng(seed)
    if limit is not None and len(found) > _LISTED:
        found = _drawn(linked, size, limit, rng)
    elif limit is not None and len(found) > limit:
        found = [found[i] for i in rng.choice(len(found), limit, replace=False)]
    return sorted([int(i) for i in one] for one in found)


def _cliques(after: Sequence[set[int]], size: int) -> Iterator[tuple[int, ...]]:
    """All ascending tuples whose images are linked; ``after[i]`` are those linked to i after it."""

    def extend(chosen: tuple[int, ...], common: set[int]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == size:
            yield chosen
            return
        for i in sorted(common):
            yield from extend((*chosen, i), common & after[i])

    return extend((), set(range(len(after))))


def _drawn(
    linked: np.ndarray, size: int, limit: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Random tuples, each once: a random pair to which random images linked to all are added."""
    edges = np.argwhere(np.triu(linked))
    found: set[tuple[int, ...]] = set()
    # Where few are left to be found, draws repeat: then fewer have to do.
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
        return "those of no pair"
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{low:.2f}, {middle:.2f} and {high:.2f} at the quartiles"
