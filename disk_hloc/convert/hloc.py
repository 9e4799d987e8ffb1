"""Convert from and to hloc's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io import release
from disk_hloc.io.hloc.features import list_keypoints
from disk_hloc.io.hloc.matches import names_to_pair, require_distinct_groups
from disk_hloc.io.hloc.pairs import require_plain_names, write_pairs
from disk_hloc.io.images import SUFFIXES, ImageReadError, image_size
from disk_hloc.io.names import require_relative
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import (
    arrays_of,
    attribute,
    find,
    members,
    number_attribute,
    read,
    read_values,
    require_array,
)
from disk_hloc.io.store.hdf5 import attributes as attributes_of

from .records import (
    MADE_UP_ATTRIBUTE,
    NAME_ATTRIBUTE,
    SIZE_ATTRIBUTE,
    TYPE_ATTRIBUTE,
    Features,
    Matches,
    Source,
    noted_type,
    set_attributes,
)


def open_source(stack: ExitStack, feature_path: Path, match_path: Path) -> Source:
    """Open a features file and, if it exists, its matches file, until ``stack`` closes.

    Raises:
        DiskHlocError: a file is missing or has another format, or has names that the other formats
            cannot hold.
    """
    by_stem: dict[str, str] = {}
    for name in list_keypoints(feature_path):
        if "/" in name:
            raise DiskHlocError(
                f"{feature_path} has images in folders ({name}), which only hloc's format supports"
            )
        other = by_stem.setdefault(Path(name).stem, name)
        if other != name:
            raise DiskHlocError(
                f"{feature_path} has {other} and {name}, which have the same name without "
                "extension: rename one of the images"
            )
    feature_file = stack.enter_context(reading(feature_path))
    match_file = stack.enter_context(reading(match_path)) if match_path.exists() else None
    stems = {name: stem for stem, name in by_stem.items()}

    def features(stem: str) -> Features:
        name = by_stem[stem]
        keypoints = read(feature_file, f"{name}/keypoints", (None, 2))
        group = find(feature_file, name)
        arrays = {key: read_values(dataset) for key, dataset in arrays_of(group)}
        noted = attributes_of(find(group, "keypoints"))
        attributes = {**noted, NAME_ATTRIBUTE: name}
        if "image_size" in arrays:
            attributes[SIZE_ATTRIBUTE] = arrays.pop("image_size")
        if "keypoint_scores" in arrays:
            arrays["scores"] = arrays.pop("keypoint_scores")
        if "descriptors" in arrays:
            arrays["descriptors"] = arrays["descriptors"].T
        pixel_size = number_attribute(find(group, "keypoints"), release.PIXEL_SIZE_ATTRIBUTE, 1.0)
        attributes.setdefault(release.PIXEL_SIZE_ATTRIBUTE, pixel_size)
        dtype = noted_type(attributes, f"{feature_path}, {name}")
        if dtype is not None:
            arrays["keypoints"] = (keypoints - (pixel_size - 1) / 2).astype(dtype)
        return Features(stem, arrays, attributes)

    def count(name: str) -> int:
        keypoints = find(feature_file, f"{name}/keypoints")
        assert isinstance(keypoints, h5py.Dataset)  # it is listed
        require_array(keypoints, (None, 2))
        return len(keypoints)

    def matches() -> Iterator[Matches]:
        for first, group in members(match_file) if match_file is not None else ():
            if not isinstance(group, h5py.Group):
                raise DiskHlocError(f"{match_path}, {first}: expected a group, but it is an array")
            for second, entry in members(group):
                where = f"{match_path}, {first} {second}"
                if not isinstance(entry, h5py.Group) or find(entry, "matches0") is None:
                    raise DiskHlocError(f"{where}: matches0 is missing")
                absent = [name for name in (first, second) if name not in stems]
                if absent:
                    raise DiskHlocError(f"{where}: {feature_path} has no keypoints of {absent[0]}")
                counts = [count(name) for name in (first, second)]
                matches0 = read(entry, "matches0", (None,), "iu")
                if len(matches0) != counts[0]:
                    raise DiskHlocError(f"{where}: these matches were made from other features")
                index = np.flatnonzero(matches0 >= 0)
                indices = np.stack([index, matches0[index]])
                release.check_matches(indices, where, *counts)
                attributes = attributes_of(find(entry, "matches0"))
                dtype = noted_type(attributes, where)
                if dtype is None:
                    attributes[TYPE_ATTRIBUTE] = str(matches0.dtype)
                scores = find(entry, "matching_scores0")
                if scores is not None:
                    require_array(scores, (len(matches0),))
                yield Matches(
                    (stems[first], stems[second]),
                    indices.astype(dtype or np.int64),
                    None
                    if scores is None or attribute(scores, MADE_UP_ATTRIBUTE) is not None
                    else read_values(scores)[index],
                    attributes,
                )

    size = feature_path.stat().st_size
    return Source(
        sorted(by_stem),
        features,
        matches,
        match_file is not None,
        attributes_of(feature_file),
        {} if match_file is None else attributes_of(match_file),
        size + (match_path.stat().st_size if match_file is not None else 0),
    )


def write_target(
    source: Source,
    folder: Path,
    image_dir: Path | None,
    filenames: tuple[str, str],
    release_origin: bool,
) -> None:
    """Write a data set to an empty folder.

    Args:
        source: the data set.
        folder: gets the files, and ``pairs.txt`` if there are matches.
        image_dir: the photos, for names and sizes that the source does not have.
        filenames: names of the features file and the matches file.
        release_origin: keep the release's coordinates of keypoints.

    Raises:
        DiskHlocError: a photo is missing, a keypoint has several matches, or the source is broken.
    """
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    with h5py.File(folder / filenames[0], "w", libver="latest") as file:
        set_attributes(file, source.feature_attributes)
        for stem in tqdm(source.names, desc="Convert features", unit="image"):
            found = source.features(stem)
            attributes, arrays = found.attributes, found.arrays
            name = _noted_name(attributes, stem) or _find_photo(image_dir, stem)
            size = attributes.pop(SIZE_ATTRIBUTE, None)
            if size is None:
                size = _image_size(image_dir, name)
            names[stem], counts[stem] = name, len(arrays["keypoints"])
            pixel_size = float(attributes[release.PIXEL_SIZE_ATTRIBUTE])
            if pixel_size != 1 and not release_origin:
                attributes[TYPE_ATTRIBUTE] = str(arrays["keypoints"].dtype)
                arrays["keypoints"] = arrays["keypoints"].astype(np.float64) + (pixel_size - 1) / 2
            attributes.setdefault("uncertainty", pixel_size)
            group = file.create_group(name)
            for kind, values in arrays.items():
                values = values.T if kind == "descriptors" else values
                dataset = group.create_dataset(kind, data=values)
                if kind == "keypoints":
                    dataset.attrs.update(attributes)
                if kind == "scores":
                    group.create_dataset("keypoint_scores", data=values)
            group.create_dataset("image_size", data=size)
    if not source.has_matches:
        return
    require_distinct_groups(names.values())
    require_plain_names(names.values())
    pairs = []
    with h5py.File(folder / filenames[1], "w", libver="latest") as file:
        set_attributes(file, source.match_attributes)
        for matches in tqdm(source.matches(), desc="Convert matches", unit="pair"):
            stem0, stem1 = matches.pair
            pair = (names[stem0], names[stem1])
            index, other = matches.indices.astype(np.int64)
            if len(np.unique(index)) < len(index):
                raise DiskHlocError(
                    f"{stem0} {stem1}: a keypoint of the first image has several matches, which "
                    "hloc's format cannot hold (match again with a larger --max-full-matrix)"
                )
            attributes = dict(matches.attributes)
            fits = counts[stem1] <= np.iinfo(np.int16).max
            dtype = noted_type(attributes, f"{stem0} {stem1}")
            if dtype is None:
                attributes[TYPE_ATTRIBUTE] = str(matches.indices.dtype)
            matches0 = np.full(counts[stem0], -1, dtype or (np.int16 if fits else np.int32))
            matches0[index] = other
            scores = matches.scores
            scores0 = np.zeros(counts[stem0], np.float16 if scores is None else scores.dtype)
            scores0[index] = 1 if scores is None else scores
            group = file.create_group(names_to_pair(*pair))
            dataset = group.create_dataset("matching_scores0", data=scores0)
            if scores is None:
                dataset.attrs[MADE_UP_ATTRIBUTE] = True
            group.create_dataset("matches0", data=matches0).attrs.update(attributes)
            pairs.append(pair)
    write_pairs(folder / "pairs.txt", pairs)


def _noted_name(attributes: dict[str, Any], stem: str) -> str | None:
    name = attributes.pop(NAME_ATTRIBUTE, None)
    if name is None:
        return None
    if not isinstance(name, str):
        raise DiskHlocError(f"the image {stem!r}: its attribute {NAME_ATTRIBUTE} is not a string")
    return require_relative(name, f"the image {stem!r}")


def _find_photo(image_dir: Path | None, stem: str) -> str:
    if image_dir is None:
        raise DiskHlocError(
            f"{stem!r} has no extension, which hloc's names need: give the photos with --images"
        )
    if not image_dir.is_dir():
        raise DiskHlocError(f"the folder {image_dir} does not exist")
    found = sorted(
        path.name
        for path in image_dir.iterdir()
        if path.stem == stem and path.suffix.lower() in SUFFIXES
    )
    if len(found) != 1:
        problem = f"has {listing(found)}: keep only one" if found else "has no such photo"
        raise DiskHlocError(f"the image {stem!r}: {image_dir} {problem}")
    return found[0]


def _image_size(image_dir: Path | None, name: str) -> np.ndarray:
    if image_dir is None:
        raise DiskHlocError(f"the size of {name} is unknown: give the photos with --images")
    try:
        return np.array(image_size(image_dir / name))
    except ImageReadError as error:
        raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
