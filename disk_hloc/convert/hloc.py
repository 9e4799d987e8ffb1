"""hloc's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from ..errors import DiskHlocError, listing
from ..io import release
from ..io.features import list_keypoints
from ..io.images import SUFFIXES, ImageReadError, image_size
from ..io.matches import names_to_pair, require_distinct_groups
from ..io.pairs import require_plain_names, write_pairs
from ..io.store import reading
from .records import (
    MADE_UP_ATTRIBUTE,
    NAME_ATTRIBUTE,
    SIZE_ATTRIBUTE,
    TYPE_ATTRIBUTE,
    Features,
    Matches,
    Source,
    set_attributes,
)


def open_source(stack: ExitStack, feature_path: Path, match_path: Path) -> Source:
    """Open a features file and, if there is one, its matches file, until ``stack`` closes.

    Raises:
        DiskHlocError: a file is missing or of another format, or has names that the other formats
            cannot tell.
    """
    by_stem: dict[str, str] = {}
    for name in list_keypoints(feature_path):
        if "/" in name:
            raise DiskHlocError(
                f"{feature_path} has images in folders ({name}), which only hloc's format can tell"
            )
        other = by_stem.setdefault(Path(name).stem, name)
        if other != name:
            raise DiskHlocError(
                f"{feature_path} has {other} and {name}, which are one without their extension: "
                "rename one of the images"
            )
    feature_file = stack.enter_context(reading(feature_path))
    match_file = stack.enter_context(reading(match_path)) if match_path.exists() else None
    stems = {name: stem for stem, name in by_stem.items()}

    def features(stem: str) -> Features:
        name = by_stem[stem]
        arrays = {key: dataset[()] for key, dataset in feature_file[name].items()}
        attributes = {**feature_file[name]["keypoints"].attrs, NAME_ATTRIBUTE: name}
        if "image_size" in arrays:
            attributes[SIZE_ATTRIBUTE] = arrays.pop("image_size")
        if "keypoint_scores" in arrays:
            arrays["scores"] = arrays.pop("keypoint_scores")
        if "descriptors" in arrays:
            arrays["descriptors"] = arrays["descriptors"].T
        pixel_size = attributes.setdefault(release.PIXEL_SIZE_ATTRIBUTE, 1.0)
        dtype = attributes.pop(TYPE_ATTRIBUTE, None)
        if dtype is not None:
            back = arrays["keypoints"] - (pixel_size - 1) / 2
            arrays["keypoints"] = back.astype(np.dtype(dtype))
        return Features(stem, arrays, attributes)

    def matches() -> Iterator[Matches]:
        for first, group in match_file.items() if match_file is not None else ():
            for second, entry in group.items():
                where = f"{match_path}, {first} {second}"
                if not isinstance(entry, h5py.Group) or "matches0" not in entry:
                    raise DiskHlocError(f"{where}: there is no matches0")
                absent = [name for name in (first, second) if name not in stems]
                if absent:
                    raise DiskHlocError(f"{where}: {feature_path} has no keypoints of {absent[0]}")
                counts = [len(feature_file[name]["keypoints"]) for name in (first, second)]
                matches0 = entry["matches0"][()]
                if len(matches0) != counts[0]:
                    raise DiskHlocError(f"{where}: these matches were made from other features")
                index = np.flatnonzero(matches0 >= 0)
                indices = np.stack([index, matches0[index]])
                release.check_matches(indices, where, *counts)
                attributes = dict(entry["matches0"].attrs)
                dtype = attributes.pop(TYPE_ATTRIBUTE, None)
                if dtype is None:
                    attributes[TYPE_ATTRIBUTE] = str(matches0.dtype)
                scores = entry.get("matching_scores0")
                yield Matches(
                    (stems[first], stems[second]),
                    indices.astype(np.dtype(dtype or np.int64)),
                    None
                    if scores is None or scores.attrs.get(MADE_UP_ATTRIBUTE)
                    else scores[()][index],
                    attributes,
                )

    size = feature_path.stat().st_size
    return Source(
        sorted(by_stem),
        features,
        matches,
        match_file is not None,
        dict(feature_file.attrs),
        {} if match_file is None else dict(match_file.attrs),
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
        folder: gets the files, and ``pairs.txt`` where there are matches.
        image_dir: the photos, for names and sizes that the source does not know.
        filenames: of features and matches.
        release_origin: leave keypoints where the release has them.

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
            name = attributes.pop(NAME_ATTRIBUTE, None) or _find_photo(image_dir, stem)
            size = attributes.pop(SIZE_ATTRIBUTE, None)
            if size is None:
                size = _image_size(image_dir, name)
            names[stem], counts[stem] = name, len(arrays["keypoints"])
            pixel_size = attributes[release.PIXEL_SIZE_ATTRIBUTE]
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
                    "hloc's format cannot tell (match again with a greater --max-full-matrix)"
                )
            attributes = dict(matches.attributes)
            fits = counts[stem1] <= np.iinfo(np.int16).max
            dtype = attributes.pop(TYPE_ATTRIBUTE, None)
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


def _find_photo(image_dir: Path | None, stem: str) -> str:
    if image_dir is None:
        raise DiskHlocError(
            f"{stem!r} has no extension, and hloc's names have one: give the photos with --images"
        )
    if not image_dir.is_dir():
        raise DiskHlocError(f"there is no folder {image_dir}")
    found = sorted(
        path.name
        for path in image_dir.iterdir()
        if path.stem == stem and path.suffix.lower() in SUFFIXES
    )
    if len(found) != 1:
        problem = f"has {listing(found)}, of which one must go" if found else "has no such photo"
        raise DiskHlocError(f"the image {stem!r}: {image_dir} {problem}")
    return found[0]


def _image_size(image_dir: Path | None, name: str) -> np.ndarray:
    if image_dir is None:
        raise DiskHlocError(f"the size of {name} is not known: give the photos with --images")
    try:
        return np.array(image_size(image_dir / name))
    except ImageReadError as error:
        raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
