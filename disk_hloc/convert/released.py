"""The files of DISK's release and of the Image Matching Challenge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
from tqdm import tqdm

from ..errors import DiskHlocError, listing
from ..io import release
from ..io.store import reading
from .records import (
    FIRST_ATTRIBUTE,
    KEY_ATTRIBUTE,
    Features,
    Matches,
    Source,
    set_attributes,
)


def open_source(stack: ExitStack, folder: Path, is_imc: bool) -> Source:
    """Open a folder of ``keypoints.h5``, ``matches.h5`` and others, until ``stack`` closes.

    Raises:
        DiskHlocError: a file is missing or of another format.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.h5"))}
    if "keypoints" not in paths:
        raise DiskHlocError(f"there is no file {folder / 'keypoints.h5'}")
    kinds = [kind for kind in paths if not kind.startswith(("matches", "matching_scores"))]
    left = [path.name for kind, path in paths.items() if kind.startswith("matches_")]
    if left:
        raise DiskHlocError(
            f"{folder} has matches a task, {listing(left)}: put each into a folder of its own, "
            "beside the features, as matches.h5"
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
        arrays = {kind: file[name][()] for kind, file in opened.items() if name in file}
        keypoints = opened["keypoints"][name]
        attributes = dict(keypoints.attrs)
        attributes[release.PIXEL_SIZE_ATTRIBUTE] = release.pixel_size(keypoints)
        return Features(name, arrays, attributes)

    def matches() -> Iterator[Matches]:
        if match_file is None:
            return
        counts = {name: len(opened["keypoints"][name]) for name in names}
        keys = _imc_pairs(match_file, names) if is_imc else _release_pairs(match_file, counts)
        for key, pair, is_reversed in keys:
            dataset = match_file[key]
            indices = dataset[()][::-1] if is_reversed else dataset[()]
            where = f"{match_file.filename}, {key}"
            release.check_matches(indices, where, counts[pair[0]], counts[pair[1]])
            scores = score_file[key][()] if score_file is not None and key in score_file else None
            attributes = dict(dataset.attrs)
            attributes.pop(FIRST_ATTRIBUTE, None)
            if is_imc and key != "-".join(sorted(pair, reverse=True)):
                attributes[KEY_ATTRIBUTE] = key
            yield Matches(pair, indices, scores, attributes)

    return Source(
        names,
        features,
        matches,
        match_file is not None,
        dict(opened["keypoints"].attrs),
        {} if match_file is None else dict(match_file.attrs),
        sum(path.stat().st_size for path in paths.values()),
    )


def _release_pairs(
    file: h5py.File, names: Mapping[str, int]
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Key, pair, and whether the rows are the other way around, which here they never are."""
    for pair in release.list_pairs(file):
        release.require_names(file, pair, names)
        yield "/".join(pair), pair, False


def _imc_pairs(
    file: h5py.File, names: Iterable[str]
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Key, pair as DISK orders it, and whether the rows are the other way around."""
    known = set(names)
    for key, dataset in file.items():
        if not isinstance(dataset, h5py.Dataset):
            raise DiskHlocError(
                f"{file.filename} is not the Image Matching Challenge's: {key} is a group (DISK's "
                "release has those)"
            )
        one, two = _split_key(key, known, file.filename)
        first = dataset.attrs.get(FIRST_ATTRIBUTE, min(one, two))
        yield key, ((one, two) if first == one else (two, one)), first != one


def _split_key(key: str, names: set[str], where: str) -> tuple[str, str]:
    """The two names in ``a-b``, where names may have hyphens too."""
    hyphens = [i for i, letter in enumerate(key) if letter == "-"]
    found = [(key[:i], key[i + 1 :]) for i in hyphens]
    found = [pair for pair in found if names.issuperset(pair)]
    if len(found) != 1:
        problem = "can be read in several ways" if found else "names no two images with keypoints"
        raise DiskHlocError(f"{where}: the pair {key!r} {problem}")
    return found[0]


def write_target(source: Source, folder: Path, is_imc: bool) -> None:
    """Write a data set to an empty folder.

    Raises:
        DiskHlocError: names or pairs that the format cannot tell, or the source is broken.
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
            # As the release does, be it an empty one.
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
                        f"the pair {' '.join(pair)} is there both ways, which the Image Matching "
                        "Challenge's format cannot tell: remove one"
                    )
                one, _ = _split_key(key, known, "the Image Matching Challenge's format")
                if pair[0] != min(pair):
                    attributes[FIRST_ATTRIBUTE] = pair[0]
                indices = indices if one == pair[0] else indices[::-1]
            file.create_dataset(key, data=indices).attrs.update(attributes)
            if scores is not None:
                file_of("matching_scores", {}).create_dataset(key, data=scores)
