"""Cycle-consistent (mutual) nearest neighbours, DISK's matching.

Paper section 3 (inference) and the release's match.py. One blockwise product of the descriptors
serves both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from packaging.version import Version
from torch import Tensor

from . import triton_support

# (B, D, N) and (B, D, M) -> (B, N) greatest of rows, (B, N) their indices, (B, M) of columns.
Greatest = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

# Similarities in memory at a time: on a CPU 4 MB, which stay in a cache; on a GPU 1 GB.
BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 28}
# Whether torch writes products of float16 as float32.
_HALF_TO_FLOAT = Version(torch.__version__).release >= (2, 8)
# A product of fewer rows is slow.
MIN_ROWS = 64


def match(
    descriptors0: Tensor,
    descriptors1: Tensor,
    ratio_threshold: float | None = None,
    distance_threshold: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Match the descriptors of two images.

    With fewer than two descriptors in either image there is no match: the nearest of one says
    nothing.

    Args:
        descriptors0: (D, N), of unit length.
        descriptors1: (D, M), of unit length.
        ratio_threshold: a match's distance is less than this multiple of the second nearest's, in
            both directions (DISK's match.py --rt); None skips the ratio test.
        distance_threshold: the maximum distance of a match, 0 to 2; None sets no limit.

    Returns:
        (N,) int64 index into ``descriptors1``, -1 for none; (N,) scores in [0, 1].
    """
    count0, count1 = descriptors0.shape[1], descriptors1.shape[1]
    device = descriptors0.device
    none = torch.full((count0,), -1, dtype=torch.int64, device=device)
    if min(count0, count1) < 2:
        return none, descriptors0.new_zeros(count0)
    needs_second = ratio_threshold is not None
    rows, nearest, columns = _greatest(descriptors0, descriptors1, needs_second)
    # A row's greatest is its column's greatest too where it is the same number.
    keep = rows[0] == columns[0][nearest]
    if ratio_threshold is not None:
        keep &= _passes_ratio(rows, ratio_threshold)
        keep &= _passes_ratio(columns, ratio_threshold)[nearest]
    if distance_threshold is not None:
        keep &= 2 * (1 - rows[0]) <= distance_threshold**2
    # Of rows that tie for a column the first has it.
    index = torch.arange(count0, device=device)
    first = torch.full((count1,), count0, device=device)
    first.scatter_reduce_(0, nearest[keep], index[keep], "amin")
    keep &= first[nearest] == index
    return torch.where(keep, nearest, none), torch.where(keep, (rows[0] + 1) / 2, 0)


def fits_together(descriptors0: Tensor, descriptors1: Tensor) -> bool:
    """Return whether the products of a pair of a batch fit in memory at once."""
    return descriptors0.shape[2] * descriptors1.shape[2] <= BLOCK_ELEMENTS["cuda"]


def match_together(
    descriptors0: Tensor,
    descriptors1: Tensor,
    ratio_threshold: float | None = None,
    distance_threshold: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Match a batch of pairs at once, which keeps a GPU busy; the same as :func:`match` of each.

    Args:
        descriptors0: (B, D, N), of unit length.
        descriptors1: (B, D, M), of unit length.
        ratio_threshold, distance_threshold: see :func:`match`.

    Returns:
        (B, N) int64 and (B, N) scores.
    """
    count0, count1 = descriptors0.shape[2], descriptors1.shape[2]
    shape = len(descriptors0), count0
    if min(count0, count1) < 2:
        return descriptors0.new_full(shape, -1, dtype=torch.int64), descriptors0.new_zeros(shape)
    halves = _as_stored(descriptors0, descriptors1)
    kernel = _kernel(descriptors0)
    if kernel and halves and ratio_threshold is None:
        rows, nearest, columns = kernel(*halves)
        keep = rows == columns.gather(1, nearest)
    else:
        size = max(1, BLOCK_ELEMENTS["cuda"] // (count0 * count1))
        if size < len(descriptors0):
            parts = [
                match_together(*part, ratio_threshold, distance_threshold)
                for part in zip(descriptors0.split(size), descriptors1.split(size), strict=True)
            ]
            matches0, scores0 = (torch.cat(found) for found in zip(*parts, strict=True))
            return matches0, scores0
        cosines = _cosines(descriptors0, descriptors1, halves)
        rows, nearest, keep = _mutual(cosines, ratio_threshold)
    if distance_threshold is not None:
        keep &= 2 * (1 - rows) <= distance_threshold**2
    # Of rows that tie for a column the first has it; rows that are not kept share an extra column.
    index = torch.arange(count0, device=keep.device).expand(shape)
    first = torch.full((len(descriptors0), count1 + 1), count0, device=keep.device)
    first.scatter_reduce_(1, torch.where(keep, nearest, count1), index, "amin")
    keep &= first.gather(1, nearest) == index
    return torch.where(keep, nearest, -1), torch.where(keep, (rows + 1) / 2, 0)


def _kernel(descriptors: Tensor) -> Greatest | None:
    """Return the kernel that takes descriptors of float16, if it runs on their device."""
    if not triton_support.supports(descriptors.device):
        return None
    # Imported here: a kernel is compiled for a GPU that exists.
    from . import nearest_kernel

    return nearest_kernel.greatest if nearest_kernel.takes(descriptors.shape[1]) else None


def _as_stored(descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return descriptors as float16, or None where they are not of a file, which has float16.

    A GPU's tensor cores multiply float16 exactly and add up in float32, in a fraction of the time.
    """
    if descriptors0.dtype != torch.float32:
        return None
    half0, half1 = descriptors0.half(), descriptors1.half()
    exact = (half0 == descriptors0).all() & (half1 == descriptors1).all()
    return (half0, half1) if bool(exact) else None


def _cosines(
    descriptors0: Tensor, descriptors1: Tensor, halves: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return the (B, N, M) float32 products of (B, D, N) and (B, D, M) descriptors."""
    if halves and _HALF_TO_FLOAT and descriptors0.is_cuda:
        return torch.bmm(halves[0].mT, halves[1], out_dtype=torch.float32)
    return descriptors0.mT @ descriptors1


def _mutual(cosines: Tensor, ratio_threshold: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Find mutual nearest neighbours in (B, N, M) cosines, which are overwritten.

    Returns:
        (B, N) the greatest of each row, (B, N) its index, and (B, N) whether it is mutual.
    """
    rows, nearest = cosines.max(dim=2)
    if ratio_threshold is None:
        return rows, nearest, rows == cosines.amax(dim=1).gather(1, nearest)
    columns, back = cosines.max(dim=1)
    keep = rows == columns.gather(1, nearest)
    # topk takes ten times as long.
    second_rows = cosines.scatter_(2, nearest[..., None], -torch.inf).amax(dim=2)
    cosines.scatter_(2, nearest[..., None], rows[..., None])
    second_columns = cosines.scatter_(1, back[:, None], -torch.inf).amax(dim=1)
    keep &= _passes_ratio(torch.stack([rows, second_rows]), ratio_threshold)
    passes = _passes_ratio(torch.stack([columns, second_columns]), ratio_threshold)
    return rows, nearest, keep & passes.gather(1, nearest)


def nearest_of(
    descriptors0: Tensor, descriptors1: Tensor, ratio_threshold: float
) -> tuple[Tensor, Tensor]:
    """Find the nearest of each descriptor, in one direction.

    Args:
        descriptors0: (D, N), of unit length.
        descriptors1: (D, M), of unit length, M at least 2.
        ratio_threshold: see :func:`match`.

    Returns:
        (N,) int64 index into ``descriptors1``; (N,) bool, whether it passes the ratio test.
    """
    rows, nearest, _ = _greatest(descriptors0, descriptors1, needs_second=True)
    return nearest, _passes_ratio(rows, ratio_threshold)


def _greatest(
    descriptors0: Tensor, descriptors1: Tensor, needs_second: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the greatest cosines of one product, block by block.

    Returns:
        (k, N) the greatest of each row, and the second if needed; (N,) the index of the greatest;
        (k, M) the greatest of each column, and the second if needed.
    """
    count0, count1 = descriptors0.shape[1], descriptors1.shape[1]
    how_many = 2 if needs_second else 1
    elements = BLOCK_ELEMENTS["cpu" if descriptors0.device.type == "cpu" else "cuda"]
    size = max(MIN_ROWS, elements // count1)
    block = descriptors0.new_empty(min(size, count0), count1)
    rows = descriptors0.new_empty(how_many, count0)
    nearest = torch.empty(count0, dtype=torch.int64, device=descriptors0.device)
    columns = descriptors0.new_full((how_many, count1), -torch.inf)
    for start in range(0, count0, size):
        part = slice(start, min(start + size, count0))
        cosines = block[: part.stop - part.start]
        torch.mm(descriptors0[:, part].T, descriptors1, out=cosines)
        if needs_second:
            columns = _two_greatest(cosines, columns)
        else:
            torch.maximum(columns[0], cosines.amax(dim=0), out=columns[0])
        nearest[part] = _argmax(cosines)
        at = nearest[part, None]
        rows[0, part] = cosines.gather(1, at)[:, 0]
        if needs_second:
            rows[1, part] = cosines.scatter_(1, at, -torch.inf).amax(dim=1)
    return rows, nearest, columns


def _argmax(values: Tensor) -> Tensor:
    """Return the index of each row's greatest value."""
    if values.device.type == "cpu":
        # Five times as fast as torch's.
        return torch.from_numpy(values.numpy().argmax(axis=1))
    return values.argmax(dim=1)


def _two_greatest(values: Tensor, others: Tensor) -> Tensor:
    """Return (2, M), the two greatest of each column of (N, M) ``values`` and (K, M) ``others``.

    By a tournament of rows, which takes a third of topk's time on a CPU.
    """
    left = [others]
    winners, losers = values, None
    while len(winners) > 1:
        half = len(winners) // 2
        one, two = winners[:half], winners[half : 2 * half]
        left.append(winners[2 * half :])
        lower = torch.minimum(one, two)
        if losers is not None:
            left.append(losers[2 * half :])
            lower = lower.maximum(losers[:half]).maximum(losers[half : 2 * half])
        winners, losers = torch.maximum(one, two), lower
    left += [winners] if losers is None else [winners, losers]
    return torch.cat(left).topk(2, dim=0).values


def _passes_ratio(cosines: Tensor, threshold: float) -> Tensor:
    """Apply DISK's ratio test to (2, N) cosines, by its own formula for distances."""
    distance = math.sqrt(2) * (1 - cosines).clamp(min=1e-6).sqrt()
    return distance[0] / distance[1] < threshold
