"""Features and pairs to a matches file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import lru_cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models, plugin
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import descriptors_shape, read_features, require_features
from disk_hloc.io.hloc.matches import match_entry, require_distinct_groups, unmatched
from disk_hloc.io.hloc.pairs import Pair, nearby_order, read_pairs
from disk_hloc.io.store import Store, reading, writing
from disk_hloc.log import logger
from disk_hloc.models.base import Matcher

# Of features that stay in memory.
CACHE_BYTES = 1 << 30

# What a matcher asks for, as batches.
Data = dict[str, Tensor]


def main(
    conf: Mapping[str, Any],
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    reference_path: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Match the pairs of a file.

    Pairs that the matches file already holds are kept, so a run that was stopped resumes. A conf
    whose model is not ours runs through hloc's own ``match_features.main``.

    Args:
        conf: ``{output, model}`` as hloc's; see configs/matchers.yaml.
        pairs_path: the pairs file.
        feature_path: the features file, with every image of the pairs.
        match_path: the matches file to make or to add to (:mod:`disk_hloc.io.hloc.matches`).
        reference_path: the features of each pair's second image, where they are in another file.
        overwrite: start the file anew.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``match_path``.

    Raises:
        DiskHlocError: a broken pairs file, an image without features, no weights, no space, or a
            file made with another conf.
    """
    pairs = checked_pairs(pairs_path, feature_path, reference_path)
    paths = (feature_path, reference_path or feature_path)
    model_name = conf["model"]["name"]
    if not models.has("matchers", model_name):
        hloc = plugin.hloc_module("match_features", needed_for=model_name)
        return hloc.main(
            conf,
            pairs_path,
            feature_path,
            matches=match_path,
            features_ref=reference_path,
            overwrite=overwrite,
        )
    resolved = devices.resolve(device)
    model = models.load("matchers", model_name)(conf["model"]).to(resolved)
    with ExitStack() as stack:
        store = stack.enter_context(writing(match_path, made_with(conf), overwrite=overwrite))
        todo = unmatched(pairs, store.done("matches0"))
        if len(todo) < len(pairs):
            logger.info("%d of %d pairs are matched already", len(pairs) - len(todo), len(pairs))
        opened = {path: stack.enter_context(reading(path)) for path in set(paths)}
        if todo:
            match_pairs(model, (opened[paths[0]], opened[paths[1]]), todo, store, resolved)
    return match_path


def checked_pairs(
    pairs_path: Path, feature_path: Path, reference_path: Path | None = None
) -> list[Pair]:
    """The pairs of a file, each of whose images has features.

    Raises:
        DiskHlocError: a broken pairs file, or an image without features.
    """
    pairs = read_pairs(pairs_path)
    require_distinct_groups(name for pair in pairs for name in pair)
    paths = (feature_path, reference_path or feature_path)
    for path, names in zip(paths, zip(*pairs, strict=True), strict=True):
        require_features(path, names, because=f"{pairs_path} names")
    return pairs


def made_with(conf: Mapping[str, Any]) -> dict[str, Any]:
    """What the matches depend on, as their file remembers it."""
    return {"model": conf["model"]}


@torch.inference_mode()
def match_pairs(
    model: Matcher,
    files: tuple[h5py.File, h5py.File],
    pairs: list[Pair],
    store: Store,
    device: torch.device,
) -> None:
    """Match pairs and write each as it is done. Images of successive pairs are read once.

    Args:
        model: the matcher.
        files: the features of the pairs' first images and of their second ones.
        pairs: those to match.
        store: of the matches file.
        device: where the model is.
    """
    at_once = _images_at_once(files, pairs)

    @lru_cache(maxsize=at_once)
    def read(file: h5py.File, name: str) -> Data:
        return {
            key: torch.from_numpy(values)[None].to(device).float()
            for key, values in read_features(file, name).items()
        }

    def loaded() -> Iterator[tuple[Pair, Data]]:
        for pair in nearby_order(pairs, at_once):
            data = {f"{key}0": value for key, value in read(files[0], pair[0]).items()}
            data |= {f"{key}1": value for key, value in read(files[1], pair[1]).items()}
            _require_one_length(files, pair, data)
            yield pair, data

    together = model.pairs_at_once.get(device.type, 1)
    matched = devices.within_memory(
        of_one_shape(loaded(), together), partial(_match, model), device
    )
    for (pair, _), found in tqdm(matched, total=len(pairs), desc="Match", unit="pair"):
        if found is None:
            raise DiskHlocError(
                f"{pair[0]} and {pair[1]} need more memory than {device} has: extract fewer "
                "keypoints (max_keypoints of the conf), or take --device cpu"
            )
        store.add(*match_entry(pair, *found))


def _match(model: Matcher, batch: list[tuple[Pair, Data]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Matches and scores of pairs of one shape."""
    prediction = model(_stacked([data for _, data in batch]))
    found = (prediction[key].cpu().numpy() for key in ("matches0", "matching_scores0"))
    return list(zip(*found, strict=True))


def of_one_shape(
    pairs: Iterable[tuple[Pair, Data]], at_once: int
) -> Iterator[list[tuple[Pair, Data]]]:
    """Pairs in order, in runs whose images have as many keypoints, of at most ``at_once``."""
    sides = ("descriptors0", "descriptors1")
    for _, run in groupby(pairs, key=lambda pair: [pair[1][side].shape for side in sides]):
        while batch := list(islice(run, at_once)):
            yield batch


def _stacked(batch: list[Data]) -> Data:
    """One batch of batches of one."""
    if len(batch) == 1:
        return batch[0]
    return {key: torch.cat([data[key] for data in batch]) for key in batch[0]}


def _require_one_length(
    files: tuple[h5py.File, h5py.File], pair: Pair, data: Mapping[str, Tensor]
) -> None:
    lengths = [data[f"descriptors{i}"].shape[1] for i in (0, 1)]
    if lengths[0] != lengths[1]:
        raise DiskHlocError(
            f"the descriptors of {pair[0]} ({files[0].filename}) have length {lengths[0]}, those "
            f"of {pair[1]} ({files[1].filename}) {lengths[1]}: extract both with one conf"
        )


def _images_at_once(files: tuple[h5py.File, h5py.File], pairs: list[Pair]) -> int:
    """How many images' features fit the cache."""
    largest = max(
        math.prod(descriptors_shape(file, name))
        for file, names in zip(files, zip(*pairs, strict=True), strict=True)
        for name in set(names)
    )
    return max(2, CACHE_BYTES // (4 * max(largest, 1)))
