"""Features and matches from one format to another, with nothing lost on the way there and back.

``release``: DISK's files (:mod:`disk_hloc.io.release`). ``imc``: the Image Matching Challenge's,
the same but for ``matches.h5``, whose datasets are called ``second-first``, the greater name first.
``hloc``: ``features.h5``, ``matches.h5`` and ``pairs.txt``.

What a format has no place for is kept where programs do not look: the name with its extension, the
size of the image, types and hloc's confs as attributes; what else hloc's features hold as a file of
that name (``scales.h5``), and the matches' scores as ``matching_scores.h5``. hloc's matches have
the order of the first image's keypoints, and one score a keypoint: the order of columns and the
scores of keypoints without a match are not kept.

hloc's keypoints lie at their pixels' centres. Released ones of resized photos are moved there, and
are then float64, so that they can be moved back to the last bit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from tqdm import tqdm

from .errors import DiskHlocError, listing
from .io import release
from .io.features import list_keypoints
from .io.images import SUFFIXES
from .io.matches import names_to_pair, require_distinct_groups
from .io.pairs import require_plain_names, write_pairs
from .io.store import CONF_ATTRIBUTE, reading, require_space

FORMATS = ("release", "imc", "hloc")
_NAME_ATTRIBUTE = "image_name"
_SIZE_ATTRIBUTE = "image_size"
_TYPE_ATTRIBUTE = "converted_from_dtype"
_KEY_ATTRIBUTE = "imc_key"
_FIRST_ATTRIBUTE = "first_image"
_MADE_UP_ATTRIBUTE = "made_up"
_CONVERTED = '{"converted": true}'


@dataclass
class Features:
    """One image's features in the release's layout.

    Attributes:
        name: of the image, without extension.
        arrays: ``keypoints`` (N, 2), ``descriptors`` (N, D), ``scores`` (N,) and others.
        attributes: of the keypoints.
    """

    name: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Matches:
    """One pair's matches.

    Attributes:
        pair: the images' names, without extension.
        indices: (2, K).
        scores: (K,), or None.
        attributes: of the indices.
    """

    pair: tuple[str, str]
    indices: np.ndarray
    scores: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Source:
    """An open data set.

    Attributes:
        names: of the images, without extension.
        features: reads those of one image.
        matches: reads those of all pairs, one after the other.
        has_matches: whether there is a matches file at all.
        feature_attributes, match_attributes: of the files.
        num_bytes: of all files.
    """

    names: list[str]
    features: Callable[[str], Features]
    matches: Callable[[], Iterator[Matches]]
    has_matches: bool
    feature_attributes: dict[str, Any]
    match_attributes: dict[str, Any]
    num_bytes: int


def main(
    source_format: str,
    target_format: str,
    source: Path,
    target: Path,
    *,
    image_dir: Path | None = None,
    features: str = "features.h5",
    matches: str = "matches.h5",
    release_origin: bool = False,
    overwrite: bool = False,
) -> Path:
    """Convert a folder.

    Args:
        source_format, target_format: of :data:`FORMATS`.
        source: a folder in the one format.
        target: the folder to write in the other.
        image_dir: the photos, which tell hloc's names of images that are known without extension.
            Photos in folders are known to hloc's format only.
        features, matches: hloc's files in their folder.
        release_origin: leave keypoints where the release has them.
        overwrite: replace what is in ``target``.

    Returns:
        ``target``.

    Raises:
        DiskHlocError: a file is missing, broken, or cannot be told in the other format without
            loss; or ``target`` has such files.
    """
    for name in (source_format, target_format):
        if name not in FORMATS:
            raise DiskHlocError(f"no format is called {name!r}; known: {', '.join(FORMATS)}")
    if target.resolve() == source.resolve():
        raise DiskHlocError(f"{target} would replace what it is made from: give another folder")
    with ExitStack() as stack:
        if source_format == "hloc":
            found = _open_hloc(stack, source / features, source / matches)
        else:
            found = _open_release(stack, source, source_format == "imc")
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target, found.num_bytes)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.mkdir()
        stack.callback(shutil.rmtree, partial)
        if target_format == "hloc":
            _write_hloc(found, partial, image_dir, (features, matches), release_origin)
        else:
            _write_release(found, partial, target_format == "imc")
        written = sorted(partial.iterdir())
        _require_no_remains(target, target_format, written, (features, matches))
        taken = [path.name for path in written if (target / path.name).exists()]
        if taken and not overwrite:
            raise DiskHlocError(
                f"{target} has {listing(taken)} already: use --overwrite, or give another folder"
            )
        target.mkdir(exist_ok=True)
        for path in written:
            path.replace(target / path.name)
    return target


def _require_no_remains(
    target: Path, target_format: str, written: Iterable[Path], filenames: Iterable[str]
) -> None:
    """Check that what stays in ``target`` would not be taken for a part of what is written."""
    if target_format == "hloc":
        there = {name for name in (*filenames, "pairs.txt") if (target / name).exists()}
    else:
        there = {path.name for path in target.glob("*.h5")}
    remains = sorted(there - {path.name for path in written})
    if remains:
        raise DiskHlocError(
            f"{target} has {listing(remains)}, which would mix with what is converted: remove, or "
            "give another folder"
        )


def _open_release(stack: ExitStack, folder: Path, is_imc: bool) -> Source:
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
            attributes.pop(_FIRST_ATTRIBUTE, None)
            if is_imc and key != "-".join(sorted(pair, reverse=True)):
                attributes[_KEY_ATTRIBUTE] = key
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
    for pair in release.list_pairs(file):
        release.require_names(file, pair, names)
        yield "/".join(pair), pair, False


def _imc_pairs(
    file: h5py.File, names: Iterable[str]
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    known = set(names)
    for key, dataset in file.items():
        if not isinstance(dataset, h5py.Dataset):
            raise DiskHlocError(
                f"{file.filename} is not the Image Matching Challenge's: {key} is a group (DISK's "
                "release has those)"
            )
        one, two = _split_key(key, known, file.filename)
        first = dataset.attrs.get(_FIRST_ATTRIBUTE, min(one, two))
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


def _open_hloc(stack: ExitStack, feature_path: Path, match_path: Path) -> Source:
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
        attributes = {**feature_file[name]["keypoints"].attrs, _NAME_ATTRIBUTE: name}
        if "image_size" in arrays:
            attributes[_SIZE_ATTRIBUTE] = arrays.pop("image_size")
        if "keypoint_scores" in arrays:
            arrays["scores"] = arrays.pop("keypoint_scores")
        if "descriptors" in arrays:
            arrays["descriptors"] = arrays["descriptors"].T
        pixel_size = attributes.setdefault(release.PIXEL_SIZE_ATTRIBUTE, 1.0)
        dtype = attributes.pop(_TYPE_ATTRIBUTE, None)
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
                dtype = attributes.pop(_TYPE_ATTRIBUTE, None)
                if dtype is None:
                    attributes[_TYPE_ATTRIBUTE] = str(matches0.dtype)
                scores = entry.get("matching_scores0")
                yield Matches(
                    (stems[first], stems[second]),
                    indices.astype(np.dtype(dtype or np.int64)),
                    None
                    if scores is None or scores.attrs.get(_MADE_UP_ATTRIBUTE)
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


def _write_release(source: Source, folder: Path, is_imc: bool) -> None:
    with ExitStack() as stack:
        files: dict[str, h5py.File] = {}

        def file_of(kind: str, attributes: Mapping[str, Any]) -> h5py.File:
            if kind not in files:
                path = release.path_of(folder, kind)
                files[kind] = stack.enter_context(h5py.File(path, "w", libver=release.LIBVER))
                _set_attributes(files[kind], attributes)
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
                key = attributes.pop(_KEY_ATTRIBUTE, "-".join(sorted(pair, reverse=True)))
                if key in file:
                    raise DiskHlocError(
                        f"the pair {' '.join(pair)} is there both ways, which the Image Matching "
                        "Challenge's format cannot tell: remove one"
                    )
                one, _ = _split_key(key, known, "the Image Matching Challenge's format")
                if pair[0] != min(pair):
                    attributes[_FIRST_ATTRIBUTE] = pair[0]
                indices = indices if one == pair[0] else indices[::-1]
            file.create_dataset(key, data=indices).attrs.update(attributes)
            if scores is not None:
                file_of("matching_scores", {}).create_dataset(key, data=scores)


def _write_hloc(
    source: Source,
    folder: Path,
    image_dir: Path | None,
    filenames: tuple[str, str],
    release_origin: bool,
) -> None:
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    with h5py.File(folder / filenames[0], "w", libver="latest") as file:
        _set_attributes(file, source.feature_attributes)
        for stem in tqdm(source.names, desc="Convert features", unit="image"):
            found = source.features(stem)
            attributes, arrays = found.attributes, found.arrays
            name = attributes.pop(_NAME_ATTRIBUTE, None) or _find_photo(image_dir, stem)
            size = attributes.pop(_SIZE_ATTRIBUTE, None)
            if size is None:
                size = _image_size(image_dir, name)
            names[stem], counts[stem] = name, len(arrays["keypoints"])
            pixel_size = attributes[release.PIXEL_SIZE_ATTRIBUTE]
            if pixel_size != 1 and not release_origin:
                attributes[_TYPE_ATTRIBUTE] = str(arrays["keypoints"].dtype)
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
        _set_attributes(file, source.match_attributes)
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
            dtype = attributes.pop(_TYPE_ATTRIBUTE, None)
            if dtype is None:
                attributes[_TYPE_ATTRIBUTE] = str(matches.indices.dtype)
            matches0 = np.full(counts[stem0], -1, dtype or (np.int16 if fits else np.int32))
            matches0[index] = other
            scores = matches.scores
            scores0 = np.zeros(counts[stem0], np.float16 if scores is None else scores.dtype)
            scores0[index] = 1 if scores is None else scores
            group = file.create_group(names_to_pair(*pair))
            dataset = group.create_dataset("matching_scores0", data=scores0)
            if scores is None:
                dataset.attrs[_MADE_UP_ATTRIBUTE] = True
            group.create_dataset("matches0", data=matches0).attrs.update(attributes)
            pairs.append(pair)
    write_pairs(folder / "pairs.txt", pairs)


def _set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """A file's attributes, and a note that keeps extraction or matching from going on in it."""
    file.attrs.update({CONF_ATTRIBUTE: _CONVERTED, **attributes})


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
        with Image.open(image_dir / name) as image:
            return np.array(image.size)
    except (OSError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"{image_dir / name} cannot be read: {reason}") from error
