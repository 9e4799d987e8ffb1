"""Pairs of photos that look alike."""

from __future__ import annotations

from disk_hloc.io.hloc.pairs import Pair

from .photos import Photos


def retrieval(photos: Photos, *, num_matched: int, min_score: float = 0.0) -> list[Pair]:
    """Pair every photo with those whose global descriptors are the most similar.

    Args:
        photos: the photos; each is a query, and each is in the database.
        num_matched: how many photos each photo is paired with; as others choose it too, it may be
            in more pairs.
        min_score: the smallest cosine of a pair, 0 to 1.

    Raises:
        DiskHlocError: there are no global descriptors, or they do not have all photos.
    """
    found = photos.similar(num_matched, min_score)
    return [(name, other) for name, others in found.items() for other in others]
