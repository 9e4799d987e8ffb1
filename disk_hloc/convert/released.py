"""Convert from and to the files of DISK's release and of the Image Matching Challenge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io import release
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import attributes as attributes_of
from disk_hloc.io.store.hdf5 import find, members, read, read_values, require_array, text_attribute

from .records import FIRST_ATTRIBUTE, KEY_ATTRIBUTE, Features, Matches, Source, set_attributes


def open_source(stack: ExitStack, folder: Path, is_imc: bool) -> Source:
    """Open a folder of ``keypoints.h5``, ``matches.h5`` and others, until ``stack`` closes.

    Raises:
        DiskHlocError: a file is missing or has another format.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.h5"))}
    if "keypoints" not in paths:
        raise DiskHlocError(f"there is no file {folder / 'keypoints.h5'}")
    kinds = [kind for kind in paths if not kind.startswith(("matches", "matching_scores"))]
    tasks = [path.name for kind, path in paths.items() if kind.startswith("matches_")]
    if tasks:
        raise DiskHlocError(
            f"{folder} has separate matches for each task, {listing(tasks)}: put each into its own "
            "folder with the features, as matches.h5"
        )
    opened = {kind: stack.enter_context(release.reading_arrays(paths[kind])) for kind in kinds}
    names = sorted(opened["keypoints"])
    match_file = stack.enter_context(reading(paths["matches"])) if "matches" in paths else None
    score_file = (
        stack.enter_context(reading(paths["matching_scores"]))
        if "matching_scores" in paths
        else None
    )

    def features(name: str) -> Features:
        keypoints = find(opened["keypoints"], name)
        require_array(keypoints, (None, 2))
        stored = {kind: find(file, name) for kind, file in opened.items()}
        arrays = {kind: read_values(item) for kind, item in stored.items() if item is not None}
        if "descriptors" in arrays:
            require_array(stored["descriptors"], (len(arrays["keypoints"]), None))
        attributes = attributes_of(keypoints)
        attributes[release.PIXEL_SIZE_ATTRIBUTE] = release.pixel_size(opened["keypoints"], name)
        return Features(name, arrays, attributes)

    def matches() -> Iterator[Matches]:
        if match_file is None:
            return
        counts = {}
        for name in names:
            require_array(find(opened["keypoints"], name), (None, 2))
            counts[name] = len(opened["keypoints"][name])
        keys = _imc_pairs(match_file, names) if is_imc else _release_pairs(match_file, counts)
        for key, pair, is_reversed in keys:
            dataset = find(match_file, key)
            where = f"{match_file.filename}, {key}"
            if not isinstance(dataset, h5py.Dataset):
                raise DiskHlocError(f"{where}: expected an array, but it is a group")
            require_array(dataset, (2, None), "iu")
            indices = read_values(dataset)[::-1] if is_reversed else read_values(dataset)
            release.check_matches(indices, where, counts[pair[0]], counts[pair[1]])
            scores = None
            if score_file is not None and find(score_file, key) is not None:
                scores = read(score_file, key, (indices.shape[1],))
            attributes = attributes_of(dataset)
            attributes.pop(FIRST_ATTRIBUTE, None)
            if is_imc and key != "-".join(sorted(pair, reverse=True)):
                attributes[KEY_ATTRIBUTE] = key
            yield Matches(pair, indices, scores, attributes)

    return Source(
        names,
        features,
        matches,
        match_file is not None,
        attributes_of(opened["keypoints"]),
        {} if match_file is None else attributes_of(match_file),
        sum(path.stat().st_size for path in paths.values()),
    )


def _release_pairs(
    file: h5py.File, names: Mapping[str, int]
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Yield the key and the pair of each dataset, and False, since rows are never reversed."""
    for pair in release.list_pairs(file):
        release.require_names(file, pair, names)
        yield "/".join(pair), pair, False


def _imc_pairs(
    file: h5py.File, names: Iterable[str]
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Yield the key of each dataset, the pair in DISK's order, and whether rows are reversed."""
    known = set(names)
    for key, dataset in members(file):
        if not isinstance(dataset, h5py.Dataset):
            raise DiskHlocError(
                f"{file.filename} is not in the format of the Image Matching Challenge: {key} is a "
                "group (as in DISK's release)"
            )
        one, two = _split_key(key, known, file.filename)
        first = text_attribute(dataset, FIRST_ATTRIBUTE) or min(one, two)
        yield key, ((one, two) if first == one else (two, one)), first != one


def _split_key(key: str, names: set[str], where: str) -> tuple[str, str]:
    """Split ``a-b`` into two names, which may also have hyphens."""
    hyphens = [i for i, letter in enumerate(key) if letter == "-"]
    found = [(key[:i], key[i + 1 :]) for i in hyphens]
    found = [pair for pair in found if names.issuperset(pair)]
    if len(found) != 1:
        problem = "is ambiguous" if found else "does not consist of two images with keypoints"
        raise DiskHlocError(f"{where}: the pair {key!r} {problem}")
    return found[0]


def write_target(source: Source, folder: Path, is_imc: bool) -> None:
    """Write a data set to an empty folder.

    Raises:
        DiskHlocError: the format cannot hold a name or a pair, or the source is broken.
    """
    with ExitStack() as stack:
        files: dict[str, h5py.File] = {}

        def file_of(kind: str, attributes: Mapping[str, Any]) -> h5py.File:
            if kind not in files:
                path = release.path_of(folder, kind)
                files[kind] = stack.enter_context(h5py.File(path, "w", libver=release.LIBVER))
                set_attributes(files[kind], attributes)
            return files[kind]

        file_of("keypoints", source.feature_attributes)
        for name in tqdm(source.names, desc="Convert features", unit="image"):
            found = source.features(name)
            for kind, values in found.arrays.items():
                dataset = file_of(kind, source.feature_attributes).create_dataset(name, data=values)
                if kind == "keypoints":
                    dataset.attrs.update(found.attributes)
        if not source.has_matches:
            return
        file = file_of("matches", source.match_attributes)
        if not is_imc:
            # The release has a group for each image, even an empty one.
            for name in source.names:
                file.create_group(name)
        known = set(source.names)
        for matches in tqdm(source.matches(), desc="Convert matches", unit="pair"):
            pair, indices, scores = matches.pair, matches.indices, matches.scores
            attributes = dict(matches.attributes)
            key = "/".join(pair)
            if is_imc:
                key = attributes.pop(KEY_ATTRIBUTE, "-".join(sorted(pair, reverse=True)))
                if key in file:
                    raise DiskHlocError(
                        f"the pair {' '.join(pair)} exists in both orders, which the format of the "
                        "Image Matching Challenge cannot hold: remove one"
                    )
                one, _ = _split_key(key, known, "the Image Matching Challenge's format")
                if pair[0] != min(pair):
                    attributes[FIRST_ATTRIBUTE] = pair[0]
                indices = indices if one == pair[0] else indices[::-1]
            file.create_dataset(key, data=indices).attrs.update(attributes)
            if scores is not None:
                file_of("matching_scores", {}).create_dataset(key, data=scores)
