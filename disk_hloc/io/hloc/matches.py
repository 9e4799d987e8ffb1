"""Read and write hloc's matches file, an HDF5 file with one group per pair.

A group holds ``matches0`` (N0,), the integer index of each keypoint's match in the second image or
-1, and ``matching_scores0`` (N0,) float16.

hloc's names of groups are the same for pairs with ``a/b.jpg`` and with ``a-b.jpg``. Where a file
has both, the groups of these pairs are the names as they are, ``a/b.jpg/c.jpg``, which hloc does
not find; all other groups are hloc's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.store import fingerprints, reading
from disk_hloc.io.store.hdf5 import find, names_with, read
from disk_hloc.io.store.journal import Dataset

from .pairs import Pair, require_plain_names


def names_to_pair(name0: str, name1: str) -> str:
    """Return the group of a pair: ``name0/name1``, with ``/`` in a name replaced by ``-``."""
    return f"{group_name(name0)}/{group_name(name1)}"


def group_name(name: str) -> str:
    """Return an image's name as part of a group's name: with ``/`` replaced by ``-``."""
    return name.replace("/", "-")


def names_alike(names: Iterable[str]) -> frozenset[str]:
    """Return the names that share their :func:`group_name` with another one."""
    names = set(names)
    counts = Counter(map(group_name, names))
    return frozenset(name for name in names if counts[group_name(name)] > 1)


def pair_group(name0: str, name1: str, alike: Collection[str] = ()) -> str:
    """Return the group that a pair is written to.

    Args:
        name0, name1: the images.
        alike: the names that hloc cannot tell apart, of :func:`names_alike`.

    Returns:
        hloc's group (:func:`names_to_pair`), or ``name0/name1`` if one of them is ``alike``.
    """
    if name0 in alike or name1 in alike:
        return f"{name0}/{name1}"
    return names_to_pair(name0, name1)


def find_pair(file: h5py.File, name0: str, name1: str) -> tuple[str, bool] | None:
    """Return the group of a pair and whether it is stored as (name1, name0); None if missing."""
    orders = ((name0, name1, False), (name1, name0, True))
    # Where a file has the names as they are, hloc's group is that of another pair.
    spellings = (pair_group,) if "/" not in name0 + name1 else (_as_they_are, pair_group)
    for spell in spellings:
        for first, second, is_reversed in orders:
            group = spell(first, second)
            if find(file, f"{group}/matches0") is not None:
                return group, is_reversed
    return None


def _as_they_are(name0: str, name1: str) -> str:
    return f"{name0}/{name1}"


def require_names_of_hloc(names: Collection[str]) -> None:
    """Check that hloc itself can read images of these names in its lists and matches files.

    Raises:
        DiskHlocError: a name has white space or begins with ``#``, or two names have one group.
    """
    require_plain_names(names)
    for name in names:
        if name.startswith("#"):
            raise DiskHlocError(
                f"COLMAP takes the image name {name!r} for a comment in hloc's list of pairs: use "
                "--engine native and models of disk_hloc, or rename the image"
            )
    require_distinct_groups(names, "use --engine native and models of disk_hloc, or ")


def require_distinct_groups(names: Iterable[str], instead: str = "") -> None:
    """Check that all names have different group names; ``a/b.jpg`` and ``a-b.jpg`` have the same.

    Args:
        names: names of images.
        instead: what can be done instead of renaming them, for the error message.

    Raises:
        DiskHlocError: two names have the same group name, so hloc's format cannot store both.
    """
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        other = taken.setdefault(group_name(name), name)
        if other != name:
            raise DiskHlocError(
                f"hloc's matches file cannot distinguish {other!r} and {name!r}, since it replaces "
                f"'/' by '-': {instead}rename one of the images"
            )


def match_entry(group: str, matches0: np.ndarray, scores0: np.ndarray) -> tuple[str, list[Dataset]]:
    """Return the arguments of :meth:`disk_hloc.io.store.store.Store.add` for one pair.

    Args:
        group: of the pair, of :func:`pair_group`.
        matches0: (N0,) integer, -1 for no match. Stored as int16 like hloc, or as int32 if an
            index exceeds int16.
        scores0: (N0,) float.
    """
    wide = len(matches0) > 0 and matches0.max() > np.iinfo(np.int16).max
    return group, [
        Dataset(f"{group}/matches0", matches0.astype(np.int32 if wide else np.int16)),
        Dataset(f"{group}/matching_scores0", scores0.astype(np.float16)),
    ]


def list_pairs(path: Path) -> set[str]:
    """Return the groups of all pairs in a matches file.

    Raises:
        DiskHlocError: the file does not exist or is not an HDF5 file.
    """
    with reading(path) as file:
        return set(names_with(file, "matches0"))


def stored_group(pair: Pair, groups: Container[str], alike: Collection[str] = ()) -> str:
    """Return the group of a pair among those of a file: either way around if it is there."""
    group, other = pair_group(*pair, alike), pair_group(*pair[::-1], alike)
    return other if group not in groups and other in groups else group


def match_inputs(digests: tuple[str, str], is_reversed: bool = False, *others: str) -> str:
    """Return the inputs of a pair's fingerprint.

    Args:
        digests: of the features of both images (:func:`.features.content_digest`).
        is_reversed: the pair is stored the other way around.
        others: digests of what else the matches were made of.
    """
    return " ".join((*(digests[::-1] if is_reversed else digests), *others))


def require_made_of(
    match_path: Path, feature_paths: tuple[Path, Path], pairs: Iterable[Pair]
) -> None:
    """Check that matches were made of the features as they are now, where both say so.

    Args:
        match_path: the matches file.
        feature_paths: the features of the pairs' first images, and of their second images.
        pairs: the pairs.

    Raises:
        DiskHlocError: some were made of other features.
    """
    with ExitStack() as stack:
        file = stack.enter_context(reading(match_path))
        features = {path: stack.enter_context(reading(path)) for path in set(feature_paths)}

        @cache
        def digest(path: Path, name: str) -> str | None:
            fingerprint = fingerprints.read_of(features[path], name)
            return None if fingerprint is None else fingerprint.content

        for pair in pairs:
            found = find_pair(file, *pair)
            made_of = fingerprints.read_of(file, found[0]) if found else None
            first, second = map(digest, feature_paths, pair)
            if found is None or made_of is None or first is None or second is None:
                continue
            if made_of.inputs.split()[:2] != match_inputs((first, second), found[1]).split():
                raise DiskHlocError(
                    f"{match_path} was made from other features of {pair[0]} and {pair[1]} than "
                    f"{feature_paths[0]} has now: match again"
                )


def read_matches(
    file: h5py.File, name0: str, name1: str, counts: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Read the matches of a pair, stored in either order.

    Args:
        file: an open matches file.
        name0, name1: the images.
        counts: numbers of keypoints of the images, if known.

    Returns:
        (K, 2) int64 indices into the keypoints of ``name0`` and ``name1``; None if the pair is not
        in the file.

    Raises:
        DiskHlocError: the matches are not (N0,) integers, or an index is out of range.
    """
    found = find_pair(file, name0, name1)
    if found is None:
        return None
    group, is_reversed = found
    matches0 = read(file, f"{group}/matches0", (None,), "iu").astype(np.int64)
    index = np.flatnonzero(matches0 >= 0)
    matches = np.stack([index, matches0[index]], axis=1)
    matches = matches[:, ::-1] if is_reversed else matches
    if counts is not None and len(matches) and (matches.max(axis=0) >= counts).any():
        raise DiskHlocError(
            f"{file.filename} was made from other features ({name0} {name1}): match again with "
            "--overwrite"
        )
    return matches


def read_scores(file: h5py.File, name0: str, name1: str) -> np.ndarray | None:
    """Read the scores of a pair's matches, in the order of :func:`read_matches`.

    Returns:
        (K,) float32, the higher the better; None if the file has none of this pair.

    Raises:
        DiskHlocError: the scores are not those of the matches.
    """
    found = find_pair(file, name0, name1)
    if found is None or find(file, f"{found[0]}/matching_scores0") is None:
        return None
    matches0 = read(file, f"{found[0]}/matches0", (None,), "iu")
    scores = read(file, f"{found[0]}/matching_scores0", (len(matches0),), "f")
    return scores[matches0 >= 0].astype(np.float32)


def read_best_first(
    file: h5py.File, name0: str, name1: str, counts: tuple[int, int] | None = None
) -> tuple[np.ndarray | None, bool]:
    """Read the matches of a pair in the order of their scores, the best first.

    Returns:
        What :func:`read_matches` returns, and whether the file has scores of this pair; without,
        the order is that of the file.
    """
    matches = read_matches(file, name0, name1, counts)
    scores = None if matches is None else read_scores(file, name0, name1)
    if matches is None or scores is None:
        return matches, False
    return matches[np.argsort(-scores, kind="stable")], True
