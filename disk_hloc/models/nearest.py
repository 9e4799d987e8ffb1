"""DISK's own matcher: cycle-consistent nearest neighbours.

Paper section 3 (inference) and the release's match.py. One blockwise product of the descriptors
serves both directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# Similarities held at a time: 256 MB in float32.
BLOCK_ELEMENTS = 1 << 26


class NearestNeighbors(nn.Module):
    """Mutual nearest neighbours of unit descriptors.

    The conf:
        ratio_threshold: a match's distance is below so many times that of the second nearest, in
            both directions (DISK's match.py --rt); None makes no ratio test.
        distance_threshold: a match's distance, 0 to 2, is at most this; None sets no limit.
    """

    default_conf: ClassVar[dict[str, Any]] = {"ratio_threshold": None, "distance_threshold": None}
    required_data_keys: ClassVar[list[str]] = ["descriptors0", "descriptors1"]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a batch of image pairs.

        Args:
            data: ``descriptors0`` (B, D, N) and ``descriptors1`` (B, D, M), of unit length.

        Returns:
            ``matches0`` (B, N) int64, -1 for none; ``matching_scores0`` (B, N), the cosine mapped
            from [-1, 1] to [0, 1], 0 for none.
        """
        pairs = zip(data["descriptors0"], data["descriptors1"], strict=True)
        matched = [
            match(d0, d1, self.conf["ratio_threshold"], self.conf["distance_threshold"])
            for d0, d1 in pairs
        ]
        return {
            "matches0": torch.stack([matches for matches, _ in matched]),
            "matching_scores0": torch.stack([scores for _, scores in matched]),
        }


def match(
    descriptors0: Tensor,
    descriptors1: Tensor,
    ratio_threshold: float | None = None,
    distance_threshold: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Mutual nearest neighbours of two images.

    With fewer than two descriptors on either side there is no match: being nearest of one says
    nothing.

    Args:
        descriptors0: (D, N), of unit length.
        descriptors1: (D, M), likewise.
        ratio_threshold: see :class:`NearestNeighbors`.
        distance_threshold: see :class:`NearestNeighbors`.

    Returns:
        (N,) int64 index into ``descriptors1``, -1 for none; (N,) scores in [0, 1].
    """
    count0, count1 = descriptors0.shape[1], descriptors1.shape[1]
    none = torch.full((count0,), -1, dtype=torch.int64, device=descriptors0.device)
    if min(count0, count1) < 2:
        return none, descriptors0.new_zeros(count0)
    how_many = 2 if ratio_threshold is not None else 1
    similarity0, index0, similarity1, index1 = _nearest(descriptors0, descriptors1, how_many)
    keep = index1[index0[:, 0], 0] == torch.arange(count0, device=none.device)
    if ratio_threshold is not None:
        keep &= _passes_ratio(similarity0, ratio_threshold)
        keep &= _passes_ratio(similarity1, ratio_threshold)[index0[:, 0]]
    if distance_threshold is not None:
        keep &= 2 * (1 - similarity0[:, 0]) <= distance_threshold**2
    matches = torch.where(keep, index0[:, 0], none)
    scores = torch.where(keep, (similarity0[:, 0] + 1) / 2, 0)
    return matches, scores


def _nearest(
    descriptors0: Tensor, descriptors1: Tensor, how_many: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosines and indices of the nearest: (N, k), (N, k) of each row, (M, k), (M, k) of columns."""
    rows = max(1, BLOCK_ELEMENTS // descriptors1.shape[1])
    by_row, by_column = [], []
    for start in range(0, descriptors0.shape[1], rows):
        block = descriptors0[:, start : start + rows].T @ descriptors1
        by_row.append(_top(block, how_many, dim=1))
        values, indices = _top(block, min(how_many, len(block)), dim=0)
        by_column.append((values, indices + start))
    similarity0 = torch.cat([values for values, _ in by_row])
    index0 = torch.cat([indices for _, indices in by_row])
    values = torch.cat([values for values, _ in by_column])
    indices = torch.cat([indices for _, indices in by_column])
    similarity1, best = _top(values, how_many, dim=0)
    index1 = indices.gather(0, best)
    return similarity0, index0, similarity1.T, index1.T


def _top(values: Tensor, how_many: int, dim: int) -> tuple[Tensor, Tensor]:
    """The greatest of each row or column, in order, and their indices."""
    if how_many == 1:
        # Twice as fast as topk on a CPU.
        return values.max(dim=dim, keepdim=True)
    return values.topk(how_many, dim=dim)


def _passes_ratio(similarity: Tensor, threshold: float) -> Tensor:
    """DISK's ratio test on (N, 2) cosines, by its own formula for distances."""
    distance = math.sqrt(2) * (1 - similarity).clamp(min=1e-6).sqrt()
    return distance[:, 0] / distance[:, 1] < threshold
