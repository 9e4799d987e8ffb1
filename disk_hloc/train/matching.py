"""Compute the distribution of matches between the features of two images (DISK's paper, section 3).

A feature of the first image picks one of the second with the softmax of -theta times the distance
of their descriptors, and each of the second picks one of the first. A match is a pair that picks
each other, so its probability is the product of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distances(descriptors1: Tensor, descriptors2: Tensor) -> Tensor:
    """Compute the (N, M) Euclidean distances of (N, D) and (M, D) unit vectors."""
    # The square root has no derivative at zero; the bound is that of the release.
    return (2 * (1 - descriptors1 @ descriptors2.T).clamp(min=1e-6)).sqrt()


def match_log_probabilities(
    descriptors1: Tensor, descriptors2: Tensor, inverse_temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute the log-probabilities of the picks in both directions.

    Args:
        descriptors1, descriptors2: (N, D) and (M, D) of unit length.
        inverse_temperature: theta_M.

    Returns:
        (N, M) that feature i of the first image picks feature j of the second, and (N, M) that j
        picks i. Their sum is the log-probability of a match.
    """
    affinity = -inverse_temperature * distances(descriptors1, descriptors2)
    return affinity.log_softmax(dim=1), affinity.log_softmax(dim=0)


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
