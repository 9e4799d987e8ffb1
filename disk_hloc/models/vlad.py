"""VLAD: one vector for an image, from its local descriptors.

Jégou, Douze, Schmid, Pérez, "Aggregating local descriptors into a compact image representation",
CVPR 2010: of each cluster of a codebook, the sum of the differences of the descriptors nearest to
it; with the intra-normalization of Arandjelović and Zisserman, "All about VLAD", CVPR 2013, each
cluster's sum at unit length. Departures: no power law, which adds nothing to intra-normalization,
and no PCA or whitening, which overfit a data set of tens of photos and rank worse. And a constant
is appended to the vector, which maps the cosine of two images from [-1, 1] to [0, 1] in the same
order: without it cosines scatter around 0, and hloc's retrieval drops the negative ones, of ten
photos of one place up to a third of each image's four nearest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from disk_hloc.confs import whole_number
from disk_hloc.errors import DiskHlocError

# The keys of a conf's model and their defaults (configs/global.yaml).
DEFAULT_CONF: dict[str, Any] = {"clusters": 64, "max_descriptors": 1 << 18, "seed": 0}
VALUES = {
    "clusters": whole_number(1),
    "max_descriptors": whole_number(1),
    "seed": whole_number(0),
}


def learn_codebook(descriptors: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Cluster descriptors by k-means. The same input and seed give the same codebook.

    Args:
        descriptors: (N, D).
        clusters: their number K, at most N.
        seed: of the initial centres and of the batches.

    Returns:
        (K, D) float32, the clusters' centres.

    Raises:
        DiskHlocError: ``clusters`` is less than one or more than N.
    """
    if not 1 <= clusters <= len(descriptors):
        raise DiskHlocError(
            f"{clusters} clusters cannot be made of {len(descriptors)} descriptors: set "
            "model: clusters to a number from 1 to that, or give a codebook learnt from more images"
        )
    # Imported here: it takes a second, and describing does not need it.
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(clusters, random_state=seed, batch_size=4096, n_init=3)
    kmeans.fit(descriptors.astype(np.float32))
    centres: np.ndarray = kmeans.cluster_centers_.astype(np.float32)
    return centres


def describe(descriptors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Compute the VLAD vector of one image.

    Args:
        descriptors: (D, N) in any order; N may be 0.
        codebook: (K, D).

    Returns:
        (K * D + 1,) float32 of unit length, cluster after cluster and the constant; all zero
        without descriptors.
    """
    descriptors = descriptors.astype(np.float32)
    # The nearest centre maximizes this, since a descriptor's own length does not matter.
    closeness = codebook @ descriptors - (codebook**2).sum(axis=1, keepdims=True) / 2
    nearest = closeness.argmax(axis=0)
    members = (nearest == np.arange(len(codebook))[:, None]).astype(np.float32)
    residuals = members @ descriptors.T - members.sum(axis=1, keepdims=True) * codebook
    aggregated = _unit(_unit(residuals).ravel())
    return _unit(np.append(aggregated, np.float32(descriptors.shape[1] > 0)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale (..., D) vectors to unit length. A zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return scaled
