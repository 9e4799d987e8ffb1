"""hloc's matches file: an HDF5 group for each pair.

``matches0`` (N0,) integer index of the match in the second image, -1 for none;
``matching_scores0`` (N0,) float16.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ..errors import DiskHlocError
from .pairs import Pair
from .store import appending


def names_to_pair(name0: str, name1: str) -> str:
    """The group of a pair: ``name0/name1``, with ``-`` for a ``/`` within a name."""
    return f"{group_name(name0)}/{group_name(name1)}"


def group_name(name: str) -> str:
    """An image's name as it stands in a group's: ``-`` for ``/``."""
    return name.replace("/", "-")


def find_pair(file: h5py.File, name0: str, name1: str) -> tuple[str, bool] | None:
    """The group of a pair, and whether it is stored the other way around; None if absent."""
    for first, second, is_reversed in ((name0, name1, False), (name1, name0, True)):
        group = names_to_pair(first, second)
        if group in file and "matches0" in file[group]:
            return group, is_reversed
    return None


def require_distinct_groups(names: Iterable[str]) -> None:
    """Check that no two names share a group's name, as ``a/b.jpg`` and ``a-b.jpg`` do.

    Raises:
        DiskHlocError: two do; hloc's format cannot tell them apart.
    """
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        other = taken.setdefault(group_name(name), name)
        if other != name:
            raise DiskHlocError(
                f"hloc's matches file cannot tell {other!r} from {name!r}, since it writes '-' "
                "for '/': rename one of the images"
            )


def write_matches(path: Path, pair: Pair, matches0: np.ndarray, scores0: np.ndarray) -> None:
    """Add one pair, whole or not at all.

    Args:
        path: the matches file.
        pair: the images' names.
        matches0: (N0,) integer, -1 for none. Stored as int16 as hloc does, or as int32 where
            the second image has more keypoints than int16 counts.
        scores0: (N0,) float.

    Raises:
        DiskHlocError: the disk is full or the file is no HDF5 file.
    """
    wide = len(matches0) > 0 and matches0.max() > np.iinfo(np.int16).max
    matches0 = matches0.astype(np.int32 if wide else np.int16)
    group_name = names_to_pair(*pair)
    with appending(path, matches0.nbytes * 2) as file:
        if group_name in file:
            del file[group_name]
        try:
            group = file.create_group(group_name)
            group.create_dataset("matching_scores0", data=scores0.astype(np.float16))
            # Last: a pair without it was interrupted.
            group.create_dataset("matches0", data=matches0)
        except BaseException:
            if group_name in file:
                del file[group_name]
            raise


def read_matches(file: h5py.File, name0: str, name1: str) -> np.ndarray | None:
    """(K, 2) int64 indices into the keypoints of ``name0`` and ``name1``; None if absent."""
    found = find_pair(file, name0, name1)
    if found is None:
        return None
    group, is_reversed = found
    matches0 = file[group]["matches0"][()].astype(np.int64)
    index = np.flatnonzero(matches0 >= 0)
    matches = np.stack([index, matches0[index]], axis=1)
    return matches[:, ::-1] if is_reversed else matches
