"""From hloc's features or matches to those outside of masks.

Either masked keypoints are removed from features, with all that belongs to them; or features keep
their keypoints and indices, and matches at masked keypoints are removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.digests import digest_of_arrays
from disk_hloc.io.hloc.features import list_keypoints, read_image_size, require_image_sizes
from disk_hloc.io.hloc.matches import group_name, require_distinct_groups
from disk_hloc.io.images import ImageReadError, read_image, require_few_pixels
from disk_hloc.io.masks import Masks, input_files, keep_keypoints, to_json
from disk_hloc.io.outputs import require_output
from disk_hloc.io.sizes import photo_sizes
from disk_hloc.io.store import CONF_ATTRIBUTE, fingerprints, reading, replacing
from disk_hloc.io.store.hdf5 import (
    arrays_of,
    attributes,
    find,
    members,
    read,
    read_values,
    require_array,
)
from disk_hloc.log import logger

# Arrays of an image, not of its keypoints, whatever the number of keypoints.
_OF_THE_IMAGE = ("image_size", "global_descriptor")


def main(
    conf: Mapping[str, Any],
    feature_path: Path,
    output: Path,
    *,
    match_path: Path | None = None,
    image_dir: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Apply masks to a features file, or to a matches file made from it.

    Args:
        conf: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`).
        feature_path: any hloc features file, with the keypoints to mask.
        output: the file to write, whole or not at all.
        match_path: a matches file; if given, it is masked and features keep all keypoints.
        image_dir: the photos, whose sizes are read if the features file has no ``image_size``
            (like those of hloc's dense matchers).
        overwrite: replace ``output``.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: a file or mask is missing or broken, or ``output`` exists.
    """
    inputs = {"features": feature_path, "matches": match_path, **input_files(conf)}
    require_output(output, "hdf5", inputs)
    if output.exists() and not overwrite:
        raise DiskHlocError(f"{output} exists: use --overwrite, or give another file")
    masks = Masks(conf)
    names = list_keypoints(feature_path)
    if image_dir is not None:
        photos = photo_sizes(image_dir, names)
        require_image_sizes(feature_path, photos, f"the photos of {image_dir}")
    with reading(feature_path) as features:
        keep = _judge(features, names, masks, image_dir)
        if match_path is None:
            with replacing(output, feature_path.stat().st_size) as target:
                _filter_features(features, target, keep)
                _note(target, masks.conf)
        else:
            with (
                reading(match_path) as matches,
                replacing(output, match_path.stat().st_size) as target,
            ):
                _filter_matches(matches, target, keep, match_path)
                _note(target, masks.conf)
    total = sum(len(flags) for flags in keep.values())
    dropped = total - sum(int(flags.sum()) for flags in keep.values())
    logger.info("%d of %d keypoints are masked, in %d images", dropped, total, len(keep))
    masks.log_missing(len(keep))
    return output


def _judge(
    features: h5py.File, names: list[str], masks: Masks, image_dir: Path | None
) -> dict[str, NDArray[np.bool_]]:
    """Return image name -> (N,) bool, which of its keypoints are kept."""
    keep = {}
    for name in tqdm(names, desc="Mask", unit="image"):
        if find(features, f"{name}/image_size") is not None:
            width, height = read_image_size(features, name)
            try:
                require_few_pixels((width, height))
            except ImageReadError as error:
                raise DiskHlocError(f"{features.filename}, {name}: {error}") from error
        elif image_dir is None:
            raise DiskHlocError(
                f"{features.filename} does not have the size of {name}: give the photos (--images)"
            )
        else:
            try:
                height, width = read_image(image_dir / name).shape[:2]
            except ImageReadError as error:
                raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
        keypoints = read(features, f"{name}/keypoints", (None, 2))
        keep[name] = keep_keypoints(masks(name, (width, height)), keypoints)
    return keep


def _filter_features(
    features: h5py.File, target: h5py.File, keep: Mapping[str, NDArray[np.bool_]]
) -> None:
    _copy_attributes(features, target)
    for name, flags in keep.items():
        source = features[name]
        group = target.create_group(name)
        _copy_attributes(source, group)
        for key, dataset in arrays_of(source):
            values = read_values(dataset)
            try:
                axis = _keypoint_axis(key, values, len(flags))
            except ValueError as error:
                raise DiskHlocError(f"{features.filename}, {name}: {error}") from error
            if axis is not None:
                values = np.compress(flags, values, axis=axis)
            _copy(key, values, dataset, group)
        if (former := fingerprints.read_of(features, name)) is not None:
            _set_fingerprint(group, f"{former.content} masked")


def _keypoint_axis(key: str, values: Any, count: int) -> int | None:
    """Return the axis along which a dataset has an entry for each keypoint, or None.

    Raises:
        ValueError: descriptors that are not (D, N) for N keypoints.
    """
    shape = np.shape(values)
    if key in _OF_THE_IMAGE or not shape:
        return None
    if key.startswith("descriptors"):
        if shape[-1] != count:
            raise ValueError(f"{key} are {shape}, but hloc's are (D, {count})")
        return len(shape) - 1
    return 0 if shape[0] == count else None


def _filter_matches(
    matches: h5py.File,
    target: h5py.File,
    keep: Mapping[str, NDArray[np.bool_]],
    path: Path,
) -> None:
    require_distinct_groups(keep)
    by_group = {group_name(name): flags for name, flags in keep.items()}
    _copy_attributes(matches, target)
    for first, others in tqdm(list(members(matches)), desc="Mask", unit="image"):
        for second in others if isinstance(others, h5py.Group) else ():
            pair = f"{first}/{second}"
            source = find(matches, pair)
            if not isinstance(source, h5py.Group) or find(source, "matches0") is None:
                raise DiskHlocError(f"{path} is not hloc's matches file: {pair} has no matches0")
            absent = [name for name in (first, second) if name not in by_group]
            if absent:
                raise DiskHlocError(
                    f"{path} has matches of {absent[0]}, which is not among the features"
                )
            group = target.create_group(pair)
            _copy_attributes(source, group)
            flags0, flags1 = by_group[first], by_group[second]
            matches0 = read(source, "matches0", (None,), "iu")
            if len(matches0) != len(flags0) or matches0.max(initial=-1) >= len(flags1):
                raise DiskHlocError(f"{path} was made from other features ({pair})")
            matched = np.flatnonzero(matches0 >= 0)
            gone = matched[~(flags0[matched] & flags1[matches0[matched]])]
            for key, dataset in arrays_of(source):
                values = read_values(dataset)
                if key == "matches0":
                    values[gone] = -1
                elif key == "matching_scores0":
                    require_array(dataset, (len(matches0),))
                    values[gone] = 0
                _copy(key, values, dataset, group)
            if (former := fingerprints.read_of(matches, pair)) is not None:
                _set_fingerprint(group, former.inputs)


def _copy(key: str, values: Any, source: h5py.Dataset, group: h5py.Group) -> None:
    try:
        copied = group.create_dataset(key, data=values)
    except TypeError as error:  # strings and others, which numpy holds as objects
        raise DiskHlocError(f"{source.file.filename}, {source.name}: {error}") from error
    _copy_attributes(source, copied)


def _copy_attributes(source: h5py.HLObject, target: h5py.HLObject) -> None:
    for key, value in attributes(source).items():
        # What another entry was made of.
        if key != fingerprints.ATTRIBUTE.decode():
            target.attrs[key] = value


def _set_fingerprint(group: h5py.Group, inputs: str) -> None:
    """Note what an entry was made of, once its arrays are written."""
    content = digest_of_arrays((key, np.asarray(read_values(item))) for key, item in group.items())
    fingerprints.write(group.file, str(group.name), f"{content} {inputs}")


def _note(target: h5py.File, conf: Mapping[str, Any]) -> None:
    """Note that the file is masked, so that extraction or matching does not add to it unmasked."""
    try:
        made_with = json.loads(target.attrs.get(CONF_ATTRIBUTE, "{}"))
    except (TypeError, ValueError, RecursionError):  # not as we write it
        made_with = {}
    known = made_with if isinstance(made_with, dict) else {}
    target.attrs[CONF_ATTRIBUTE] = json.dumps({**known, "masked": to_json(conf)})
