"""A Triton kernel that finds nearest neighbours without writing the products of two images.

Of 5,000 keypoints they take 100 MB a pair, and writing and reading them takes most of the time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A tile of each fits in the shared memory of any GPU that Triton supports.
_ROWS, _COLUMNS = 128, 64
_DIMS = (16, 32, 64, 128)


def takes(dim: int) -> bool:
    """Return whether the kernel takes descriptors of a length."""
    return dim in _DIMS


@triton.jit
def _greatest_kernel(
    descriptors0, descriptors1, rows, nearest, columns, count0, count1,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Find the greatest product of each row, and with the other programs that of each column."""
    pair = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = row < count0
    dim = tl.arange(0, DIM)
    descriptors0 += pair * DIM * count0
    descriptors1 += pair * DIM * count1
    columns += pair * count1
    mine = tl.load(
        descriptors0 + dim[None, :] * count0 + row[:, None], mask=exists[:, None], other=0
    )
    greatest = tl.full((ROWS,), -float("inf"), tl.float32)
    at = tl.zeros((ROWS,), tl.int32)
    for start in range(0, count1, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        there = column < count1
        others = tl.load(
            descriptors1 + dim[:, None] * count1 + column[None, :], mask=there[None, :], other=0
        )
        products = tl.dot(mine, others)
        products = tl.where(exists[:, None] & there[None, :], products, -float("inf"))
        best, index = tl.max(products, axis=1, return_indices=True)
        better = best > greatest
        greatest = tl.where(better, best, greatest)
        at = tl.where(better, start + index, at)
        # The greatest does not depend on the order of the programs.
        tl.atomic_max(columns + column, tl.max(products, axis=0), mask=there)
    tl.store(rows + pair * count0 + row, greatest, mask=exists)
    tl.store(nearest + pair * count0 + row, at.to(tl.int64), mask=exists)


def greatest(descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the greatest products of the rows and columns of each pair.

    Args:
        descriptors0: (B, D, N) float16, of a length that the kernel takes.
        descriptors1: (B, D, M) float16.

    Returns:
        (B, N) float32 the greatest of each row; (B, N) int64 its index, the first of equal ones;
        (B, M) float32 the greatest of each column.
    """
    pairs, dim, count0 = descriptors0.shape
    count1 = descriptors1.shape[2]
    rows = descriptors0.new_empty(pairs, count0, dtype=torch.float32)
    nearest = torch.empty(pairs, count0, dtype=torch.int64, device=rows.device)
    columns = rows.new_full((pairs, count1), -torch.inf)
    # Triton takes the current device, which may be another GPU.
    with torch.cuda.device_of(descriptors0):
        _greatest_kernel[triton.cdiv(count0, _ROWS), pairs](
            descriptors0.contiguous(), descriptors1.contiguous(), rows, nearest, columns, count0,
            count1, DIM=dim, ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=8,
        )  # fmt: skip
    return rows, nearest, columns
