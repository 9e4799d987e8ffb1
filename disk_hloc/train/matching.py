"""Compute the distribution of matches between the features of two images (DISK's paper, section 3).

A feature of the first image picks one of the second with the softmax of -theta times the distance
of their descriptors, and each of the second picks one of the first. A match is a pair that picks
each other, so its probability is the product of the two.

The distance is Euclidean in DISK, and one minus the cosine in PoSFeat (Li, Wang, Liu, Ran, Xu, Guo,
"Decoupling makes weakly supervised local feature better", CVPR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from disk_hloc.choices import AFFINITIES
from disk_hloc.errors import DiskHlocError


def distances(descriptors1: Tensor, descriptors2: Tensor) -> Tensor:
    """Compute the (N, M) Euclidean distances of (N, D) and (M, D) unit vectors."""
    # The square root has no derivative at zero; the bound is that of the release.
    return (2 * (1 - descriptors1 @ descriptors2.T).clamp(min=1e-6)).sqrt()


def cosine_distances(descriptors1: Tensor, descriptors2: Tensor) -> Tensor:
    """Compute 1 minus the (N, M) cosines of the angles of (N, D) and (M, D) unit vectors."""
    return 1 - descriptors1 @ descriptors2.T


def match_log_probabilities(
    descriptors1: Tensor,
    descriptors2: Tensor,
    inverse_temperature: float,
    affinity: str = "euclidean",
) -> tuple[Tensor, Tensor]:
    """Compute the log-probabilities of the picks in both directions.

    Args:
        descriptors1, descriptors2: (N, D) and (M, D) of unit length.
        inverse_temperature: theta_M.
        affinity: the distance: ``euclidean`` or ``cosine``.

    Raises:
        DiskHlocError: ``affinity`` is unknown.

    Returns:
        (N, M) that feature i of the first image picks feature j of the second, and (N, M) that j
        picks i. Their sum is the log-probability of a match.
    """
    if affinity not in AFFINITIES:
        raise DiskHlocError(f"affinity must be one of {', '.join(AFFINITIES)}, found {affinity!r}")
    between = distances if affinity == "euclidean" else cosine_distances
    logits = -inverse_temperature * between(descriptors1, descriptors2)
    return logits.log_softmax(dim=1), logits.log_softmax(dim=0)


def mutual_nearest(descriptors1: Tensor, descriptors2: Tensor) -> Tensor:
    """Match features that are each other's nearest neighbours.

    Args:
        descriptors1, descriptors2: (N, D) and (M, D) of unit length.

    Returns:
        (K, 2) int64 indices, sorted by the first one.
    """
    if len(descriptors1) == 0 or len(descriptors2) == 0:
        return torch.zeros(0, 2, dtype=torch.int64, device=descriptors1.device)
    similarity = descriptors1 @ descriptors2.T
    forth, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    index = torch.arange(len(forth), device=forth.device)
    return torch.stack([index, forth], dim=1)[back[forth] == index]
