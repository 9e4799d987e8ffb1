"""DISK's own matcher: mutual nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from disk_hloc.confs import Value, number, or_null

from ..base import Matcher
from ..nearest import fits_together, match, match_together


class NearestNeighbors(Matcher):
    """Matches descriptors of unit length that are mutual nearest neighbours.

    The conf:
        ratio_threshold: a match's distance is less than this multiple of the second nearest's, in
            both directions (DISK's match.py --rt); None skips the ratio test.
        distance_threshold: the maximum distance of a match, 0 to 2; None sets no limit.

    Raises:
        DiskHlocError: an unknown key in the conf.
    """

    default_conf: ClassVar[dict[str, Any]] = {"ratio_threshold": None, "distance_threshold": None}
    conf_values: ClassVar[dict[str, Value]] = {
        "ratio_threshold": or_null(number(0)),
        "distance_threshold": or_null(number(0)),
    }
    required_data_keys: ClassVar[list[str]] = ["descriptors0", "descriptors1"]
    # The products of a batch would not fit in a CPU's caches.
    pairs_at_once: ClassVar[dict[str, int]] = {"cuda": 16}

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a batch of image pairs.

        Args:
            data: ``descriptors0`` (B, D, N) and ``descriptors1`` (B, D, M), of unit length.

        Returns:
            ``matches0`` (B, N) int64, -1 for no match; ``matching_scores0`` (B, N), the cosine
            mapped from [-1, 1] to [0, 1], 0 for no match.
        """
        descriptors = data["descriptors0"], data["descriptors1"]
        thresholds = self.conf["ratio_threshold"], self.conf["distance_threshold"]
        # A CPU takes one pair after the other, whose products stay in its caches.
        if descriptors[0].is_cuda and fits_together(*descriptors):
            matches0, scores0 = match_together(*descriptors, *thresholds)
        else:
            matched = [match(*pair, *thresholds) for pair in zip(*descriptors, strict=True)]
            matches0, scores0 = (torch.stack(found) for found in zip(*matched, strict=True))
        return {"matches0": matches0, "matching_scores0": scores0}
