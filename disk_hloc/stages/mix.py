"""From features and matches of several extractors to one features file and one matches file.

Detectors fail in different places, so a model of the features of several holds together where that
of each would break. The keypoints of an image are those of all parts, one part after the other, and
its matches are those of all parts with their indices moved. Parts are never matched with each
other: their descriptors have nothing in common. hloc's and COLMAP's later steps need keypoints and
matches alone, so joined features have no descriptors, whose lengths may differ.

Joined files are made again as soon as a part is another: they take seconds, their parts hours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.hloc.features import (
    content_digest,
    feature_entry,
    features_digests,
    list_features,
    read_image_size,
    read_keypoints,
    require_features,
)
from disk_hloc.io.hloc.matches import (
    find_pair,
    match_entry,
    match_inputs,
    names_alike,
    pair_group,
    read_matches,
    require_made_of,
    stored_group,
)
from disk_hloc.io.hloc.pairs import Pair, read_pairs
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import (
    CONF_ATTRIBUTE,
    FORMAT,
    FORMAT_KEY,
    Fingerprint,
    conf_text,
    fingerprints,
    journal_path,
    plan,
    reading,
    writing,
)
from disk_hloc.io.store.hdf5 import (
    find,
    has,
    number_attribute,
    read,
    require_array,
    text_attribute,
)
from disk_hloc.io.store.journal import Journal

# The features and the matches of one extractor.
Part = tuple[Path, Path]

# The key in a joined file's conf that no other file has: the confs of its parts.
_PARTS = "joined"
# What a keypoint's coordinates are good to where its file does not say it, as in hloc.
_UNCERTAINTY_PX = 1.0


def join_features(
    parts: Sequence[Part],
    output: Path,
    *,
    names: Collection[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Join the features of several extractors.

    The images are those of the first part; another part may lack some. Images that the file has
    already are kept if their parts are the same.

    Args:
        parts: features and matches of each extractor, in the order of the keypoints; only the
            features are read.
        output: the features file to make or to add to (:mod:`disk_hloc.io.hloc.features`):
            ``keypoints`` (N, 2) float32, ``keypoint_scores`` and ``scores`` (N,) float32, each
            part's on its own scale, and ``image_size``; no descriptors. A part's keypoints may be
            less certain than another's: the attribute ``uncertainty`` is the largest, in pixels.
        names: of the images, those to join; None joins all.
        overwrite: make the file from scratch.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: a part is missing or broken, two parts are of photos of different sizes, the
            output is no joined file, or there is no space.
    """
    feature_paths = [features for features, _ in parts]
    require_output(output, "hdf5", {f"features {path}": path for path in feature_paths})
    conf = _made_with(feature_paths)
    overwrite = overwrite or _joins_others(output, conf)
    wanted = None if names is None else set(names)
    found = list_features(feature_paths[0])
    chosen = [name for name in found if wanted is None or name in wanted]
    with (
        _all_reading(feature_paths) as files,
        writing(output, conf, overwrite=overwrite) as store,
    ):
        inputs = {name: _features_inputs(files, name) for name in chosen}
        planned = plan(
            output, chosen, store.entries("keypoints", "image_size"), lambda name, _: inputs[name],
            kinds=("images",), unit="image", verb="join",
        )  # fmt: skip
        planned.log()
        store.drop(planned.outdated)
        for name in tqdm(planned.todo, desc="Join", unit="image", disable=not planned.todo):
            store.add(*_joined_features(files, name), inputs[name])
    return output


def join_matches(
    parts: Sequence[Part],
    pairs_path: Path,
    feature_path: Path,
    output: Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Join the matches of several extractors.

    A part may lack some of the pairs. Pairs that the file has already are kept if their parts are
    the same.

    Args:
        parts: features and matches of each extractor, in the order of :func:`join_features`.
        pairs_path: the pairs file.
        feature_path: the joined features.
        output: the matches file to make or to add to (:mod:`disk_hloc.io.hloc.matches`).
        overwrite: make the file from scratch.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: a part is missing or broken, matches or joined features were made of other
            features than the parts have, no part has matches of a pair, the output is no joined
            file, or there is no space.
    """
    feature_paths = [features for features, _ in parts]
    match_paths = [matches for _, matches in parts]
    inputs = {f"matches {path}": path for path in match_paths}
    require_output(output, "hdf5", {"pairs": pairs_path, "features": feature_path, **inputs})
    pairs = read_pairs(pairs_path)
    names = {name for pair in pairs for name in pair}
    require_features(feature_path, names, because=f"{pairs_path} names")
    for part, matches_of_part in parts:
        require_made_of(matches_of_part, (part, part), pairs)
    conf = _made_with(match_paths)
    overwrite = overwrite or _joins_others(output, conf)
    with (
        _all_reading(feature_paths) as features,
        _all_reading(match_paths) as matches,
        writing(output, conf, overwrite=overwrite) as store,
    ):
        _require_joined_of(feature_path, features, names)
        found = store.entries("matches0")
        pair_of = _as_stored(pairs, found)
        made_of = _matches_inputs(feature_path, matches, pair_of)
        planned = plan(
            output, list(pair_of), found, lambda group, _: made_of[group],
            kinds=("pairs",) * 3, unit="pair", verb="join",
        )  # fmt: skip
        planned.log()
        store.drop(planned.outdated)

        @cache
        def counts(name: str) -> list[int]:
            return [_count(file, name) for file in features]

        for group in tqdm(planned.todo, desc="Join", unit="pair", disable=not planned.todo):
            first, second = pair_of[group]
            sizes = list(zip(counts(first), counts(second), strict=True))
            joined = _joined_matches(matches, (first, second), sizes)
            store.add(*match_entry(group, *joined), made_of[group])
    return output


def require_joined(*paths: Path) -> None:
    """Check that files may be replaced by joined ones, before their parts are made.

    Args:
        paths: joined files, or files that do not exist.

    Raises:
        DiskHlocError: one is another file, or holds unfinished work of one.
    """
    for path in paths:
        if any(_parts_of(text) is None for text in _confs_of(path)):
            raise DiskHlocError(
                f"{path} was not made by joining the features of several extractors, and would be "
                "replaced: use --overwrite or another folder"
            )


def _made_with(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what all entries depend on: the confs of the parts, which keep it in their files."""
    texts = []
    for path in paths:
        with reading(path) as file:
            texts.append(text_attribute(file, CONF_ATTRIBUTE))
    return {FORMAT_KEY: FORMAT, _PARTS: [_parsed(text) for text in texts]}


def _joins_others(path: Path, conf: Mapping[str, Any]) -> bool:
    """Return whether a joined file, or unfinished work on it, is of other parts.

    Raises:
        DiskHlocError: it is no joined file.
    """
    require_joined(path)
    return any(text != conf_text(conf) for text in _confs_of(path))


def _confs_of(path: Path) -> Iterator[str | None]:
    """Yield the confs of a file and of its journal, those of them that exist."""
    if path.is_file():
        with reading(path) as file:
            yield text_attribute(file, CONF_ATTRIBUTE)
    if journal_path(path).is_file():
        journal = Journal(journal_path(path))
        header = journal.header
        journal.close()
        if header:
            yield header.get("conf")


def _parts_of(text: str | None) -> Any:
    """Return the confs of the parts of a joined file; None for any other file."""
    conf = _parsed(text)
    return conf.get(_PARTS) if isinstance(conf, dict) else None


def _parsed(text: str | None) -> Any:
    """Return a file's conf; as it is if it is not ours."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return text


@contextmanager
def _all_reading(paths: Sequence[Path]) -> Iterator[list[h5py.File]]:
    with ExitStack() as stack:
        yield [stack.enter_context(reading(path)) for path in paths]


def _features_inputs(files: Sequence[h5py.File], name: str) -> str:
    """Return the inputs of an image's fingerprint: its features in each part, null for none."""
    return digest_of_data(
        [content_digest(file, name) if has(file, name, "keypoints") else None for file in files]
    )


def _joined_features(files: Sequence[h5py.File], name: str) -> tuple[str, list[Any]]:
    """Return the arguments of :meth:`disk_hloc.io.store.store.Store.add` for one image."""
    files = [file for file in files if has(file, name, "keypoints")]
    size = read_image_size(files[0], name)
    keypoints, scores, uncertainties = [], [], []
    for file in files:
        if has(file, name, "image_size") and read_image_size(file, name) != size:
            raise DiskHlocError(
                f"{file.filename} has features of {name} in another size than "
                f"{files[0].filename}: extract both from the same photos"
            )
        keypoints.append(read_keypoints(file, name))
        # Not every extractor of hloc writes both.
        key = "keypoint_scores" if has(file, name, "keypoint_scores") else "scores"
        scores.append(read(file, f"{name}/{key}", (len(keypoints[-1]),)).astype(np.float32))
        stored = find(file, f"{name}/keypoints")
        assert stored is not None
        uncertainties.append(number_attribute(stored, "uncertainty", _UNCERTAINTY_PX))
    all_scores = np.concatenate(scores)
    features = {
        "keypoints": np.concatenate(keypoints),
        "keypoint_scores": all_scores,
        "scores": all_scores,
        "image_size": np.array(size),
    }
    return feature_entry(name, features, max(uncertainties))


def _require_joined_of(
    feature_path: Path, files: Sequence[h5py.File], names: Collection[str]
) -> None:
    """Check that joined features are those of the parts as they are now."""
    with reading(feature_path) as joined:
        for name in names:
            made_of = fingerprints.read_of(joined, name)
            if made_of is None or made_of.inputs != _features_inputs(files, name):
                raise DiskHlocError(
                    f"{feature_path} was joined from other features of {name} than "
                    f"{', '.join(str(file.filename) for file in files)} have now: join them again"
                )


def _as_stored(pairs: Sequence[Pair], found: Mapping[str, Fingerprint | None]) -> dict[str, Pair]:
    """Return the group of each pair -> the pair in that order; one that is stored keeps its own."""
    alike = names_alike(name for pair in pairs for name in pair)
    pair_of = {}
    for pair in pairs:
        group = stored_group(pair, found, alike)
        pair_of[group] = pair if group == pair_group(*pair, alike) else pair[::-1]
    return pair_of


def _matches_inputs(
    feature_path: Path, files: Sequence[h5py.File], pair_of: Mapping[str, Pair]
) -> dict[str, str]:
    """Return the inputs of each pair's fingerprint.

    They begin with those of any matches, the digests of both images' features; the matches of all
    parts follow as one digest.
    """
    digests = features_digests(feature_path, {name for pair in pair_of.values() for name in pair})
    inputs = {}
    for group, (first, second) in pair_of.items():
        groups = [find_pair(file, first, second) for file in files]
        if not any(groups):
            raise DiskHlocError(
                f"none of {', '.join(str(file.filename) for file in files)} has matches of {first} "
                f"and {second}: match them first, or remove them from the pairs"
            )
        # Both ways around are different matches: of several to one, a reversed pair keeps one.
        parts = [
            [content_digest(file, part[0]), part[1]] if part else None
            for file, part in zip(files, groups, strict=True)
        ]
        features = digests[first], digests[second]
        inputs[group] = match_inputs(features, False, digest_of_data(parts))
    return inputs


def _joined_matches(
    files: Sequence[h5py.File], pair: Pair, sizes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matches of one pair.

    Args:
        files: the matches of each part.
        pair: the images.
        sizes: how many keypoints of both images each part has.

    Returns:
        (N0,) int64 matches, -1 for none, and (N0,) float32 scores, of all parts' keypoints.
    """
    total = sum(size for size, _ in sizes)
    matches0, scores0 = np.full(total, -1), np.zeros(total, np.float32)
    start = np.zeros(2, np.int64)
    for file, counts in zip(files, sizes, strict=True):
        matches = read_matches(file, *pair, counts)
        if matches is not None:
            index0, index1 = (matches + start).T
            matches0[index0] = index1
            scores0[index0] = _scores(file, pair, counts, matches)
        start += counts
    return matches0, scores0


def _scores(
    file: h5py.File, pair: Pair, counts: tuple[int, int], matches: np.ndarray
) -> np.ndarray:
    """Return the (K,) scores of (K, 2) matches of a pair, which may be stored in either order."""
    found = find_pair(file, *pair)
    assert found is not None
    group, is_reversed = found
    side = int(is_reversed)
    scores: np.ndarray = read(file, f"{group}/matching_scores0", (counts[side],))
    return scores[matches[:, side]]


def _count(file: h5py.File, name: str) -> int:
    """Return how many keypoints a file has of an image; 0 if it does not have the image."""
    stored = find(file, f"{name}/keypoints")
    if not isinstance(stored, h5py.Dataset):
        return 0
    require_array(stored, (None, 2))
    return int(stored.shape[0])
