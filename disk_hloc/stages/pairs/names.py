"""Pairs by the names of photos, or the order in which they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import combinations
from typing import Any

from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.names import natural_order

from .photos import Photos


def exhaustive(photos: Photos) -> list[Pair]:
    """Pair every photo with every other."""
    return list(combinations(photos.names, 2))


def sequential(
    photos: Photos,
    *,
    overlap: int,
    quadratic: bool = False,
    loop_period: int = 0,
    loop_matched: int = 0,
) -> list[Pair]:
    """Pair every photo with those that follow it, as for the frames of a video.

    As COLMAP's sequential matcher (Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR
    2016) does, with loops closed by retrieval where global descriptors are known.

    Args:
        photos: the frames, ordered by the time in their EXIF data if all have one, else by name
            (:func:`disk_hloc.io.names.natural_order`).
        overlap: how many following photos each photo is paired with.
        quadratic: also pair it with those 2, 4, 8, ... 2^(overlap - 1) further on.
        loop_period: every photo of this step is also paired with those that look like it, wherever
            they are in the sequence; 0 closes no loops.
        loop_matched: how many of these, not counting those that the sequence pairs it with.
    """
    names = in_sequence(photos)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**power for power in range(overlap)}
    pairs = along(names, sorted(steps))
    if loop_period and loop_matched and photos.describe is not None:
        known = {frozenset(pair) for pair in pairs}
        found = photos.similar(loop_matched + 2 * len(steps), queries=names[::loop_period])
        for name, others in found.items():
            far = [other for other in others if frozenset((name, other)) not in known]
            pairs += [(name, other) for other in far[:loop_matched]]
    return pairs


def along(names: Sequence[str], steps: Sequence[int]) -> list[Pair]:
    """Return the pairs of a sequence whose places differ by one of ``steps``."""
    return [
        (name, names[i + step])
        for i, name in enumerate(names)
        for step in steps
        if i + step < len(names)
    ]


def in_sequence(photos: Photos) -> list[str]:
    """Return the photos in the order of their EXIF times if all have one, else of their names."""
    return by_time(photos) or sorted(photos.names, key=natural_order)


def by_time(photos: Photos) -> list[str] | None:
    """Return the photos in the order of their EXIF times; None if some have no time.

    Photos of one time are in the order of their names.
    """
    times = {name: exif.time for name, exif in photos.exif.items() if exif.time is not None}
    if len(times) < len(photos.names):
        return None
    keys: dict[str, tuple[datetime, Any]] = {
        name: (time, natural_order(name)) for name, time in times.items()
    }
    return sorted(photos.names, key=keys.__getitem__)
