"""The pairs that suit a folder of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.names import natural_order
from disk_hloc.log import logger

from . import gps
from .names import along, by_time, exhaustive
from .photos import Photos, distinct

# Photos form a sequence if this share of successive ones look alike: if one is among the other's
# nearest by their global descriptors. Measured (docs/pairs.md): 0.93 of a walk, 0.88 of a drone's
# flight, and at most 0.41 of the same photos in 50 random orders.
_LEAST_ALIKE = 0.6
_ALIKE_WITHIN = 3


def auto(
    photos: Photos,
    *,
    exhaustive_up_to: int,
    num_matched: int,
    overlap: int,
    num_nearest: int,
    max_distance: float,
) -> list[Pair]:
    """Pair all photos of a small folder; of a large one, those that look alike or are neighbours.

    The number of pairs grows with that of the photos, not with its square. Beside the photos that
    look alike, photos are paired with their neighbours in the sequence, if they form one, and with
    those that were taken near them, if their EXIF data say where. A log line says what was chosen
    and why.

    Args:
        photos: the photos.
        exhaustive_up_to: of up to this many photos, all pairs are chosen.
        num_matched: as of :func:`.retrieval.retrieval`.
        overlap: as of :func:`.names.sequential`.
        num_nearest: as ``num_matched`` of :func:`.gps.spatial`.
        max_distance: as of :func:`.gps.spatial`, in metres.

    Raises:
        DiskHlocError: there are no global descriptors, or they do not have all photos.
    """
    count = len(photos.names)
    if count <= exhaustive_up_to:
        pairs = exhaustive(photos)
        logger.info(
            "auto: all %d pairs of %d photos (up to %d are matched exhaustively)",
            len(pairs), count, exhaustive_up_to,
        )  # fmt: skip
        return pairs
    similar = photos.similar(num_matched)
    pairs = [(name, other) for name, others in similar.items() for other in others]
    reasons = [f"retrieval, as there are more than {exhaustive_up_to}"]
    found = _sequence(photos, similar)
    if found is None:
        reasons.append("no sequence, as successive photos do not look alike")
    else:
        order, names, share = found
        pairs += along(names, range(1, overlap + 1))
        reasons.append(f"the sequence by {order}, as {share:.0%} of successive photos look alike")
    located = gps.positions(photos)
    if len(located) > 1:
        pairs += gps.nearest(located, num_nearest, max_distance)
        reasons.append(f"GPS, as {len(located)} photos have it")
    pairs = distinct(pairs)
    logger.info("auto: %d pairs of %d photos: %s", len(pairs), count, "; ".join(reasons))
    return pairs


def _sequence(
    photos: Photos, similar: Mapping[str, Sequence[str]]
) -> tuple[str, list[str], float] | None:
    """Return what orders the photos as a sequence, the order, and how many successive ones agree.

    Numbers in names alone say little: exports and shuffled data sets are numbered, too.
    """
    times = by_time(photos)
    orders = {"name": sorted(photos.names, key=natural_order)}
    if times is not None:
        orders["time"] = times
    shares = {order: share_alike(names, similar) for order, names in orders.items()}
    best = max(shares, key=shares.__getitem__)
    return (best, orders[best], shares[best]) if shares[best] >= _LEAST_ALIKE else None


def share_alike(names: Sequence[str], similar: Mapping[str, Sequence[str]]) -> float:
    """Return the share of successive photos of which one is among the other's nearest."""
    nearest = {name: set(others[:_ALIKE_WITHIN]) for name, others in similar.items()}
    pairs = along(names, [1])
    alike = [b in nearest.get(a, ()) or a in nearest.get(b, ()) for a, b in pairs]
    return sum(alike) / len(pairs)
