"""Features and pairs to a matches file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import (
    content_digest,
    descriptors_shape,
    features_digests,
    read_features,
    require_features,
)
from disk_hloc.io.hloc.matches import (
    match_entry,
    match_inputs,
    names_alike,
    pair_group,
    require_names_of_hloc,
    stored_group,
)
from disk_hloc.io.hloc.pairs import Pair, from_line, nearby_order, read_pairs, to_line
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import FORMAT, FORMAT_KEY, Fingerprint, Plan, Store, plan, reading
from disk_hloc.models.base import Matcher

from . import through_hloc
from .work import HlocWork, Task, Work

# Features of this size, and what a matcher keeps of them, stay in memory.
CACHE_BYTES = 1 << 30
# One worker matches up to this many pairs at a time.
MAX_PAIRS_PER_SHARD = 512

# Numbers of keypoints in a batch differ by this factor at most.
UNEQUAL = 1.5

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

    Pairs that the matches file has already are skipped, so a run that was stopped resumes. A conf
    whose model is not ours runs through hloc's own ``match_features.main``.

    Args:
        conf: ``{output, model}`` as hloc's; see configs/matchers.yaml.
        pairs_path: the pairs file.
        feature_path: the features file, with every image of the pairs.
        match_path: the matches file to make or to add to (:mod:`disk_hloc.io.hloc.matches`).
        reference_path: the features of each pair's second image, if they are in another file.
        overwrite: make the file from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``match_path``.

    Raises:
        DiskHlocError: a broken pairs file, an image without features, no weights, no space, or a
            file made with another conf.
    """
    chosen = work(conf, pairs_path, feature_path, match_path, reference_path=reference_path)
    return chosen.run(overwrite=overwrite, device=device)


def work(
    conf: Mapping[str, Any],
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    reference_path: Path | None = None,
) -> Work | HlocWork:
    """Return the work that :func:`main` does. See there for arguments and errors."""
    inputs = {"pairs": pairs_path, "features": feature_path, "other features": reference_path}
    require_output(match_path, "hdf5", inputs)
    pairs = read_pairs(pairs_path)
    require_names(conf, {name for pair in pairs for name in pair})
    paths = {"feature_path": feature_path, "reference_path": reference_path or feature_path}
    for path, names in zip(paths.values(), zip(*pairs, strict=True), strict=True):
        require_features(path, names, f"{pairs_path} names", "image_size")
        with reading(path) as file:
            for name in names[:1]:
                descriptors_shape(file, name)
    model_name = conf["model"]["name"]
    if not models.has("matchers", model_name):
        return HlocWork(
            match_path,
            model_name,
            partial(through_hloc.match, conf, pairs_path, feature_path, match_path, reference_path),
        )
    alike = names_alike(name for pair in pairs for name in pair)
    task = Task(
        made_with(conf),
        arrays=("matches0",),
        unit="pair",
        plan=partial(
            _plan, feature_path=feature_path, reference_path=paths["reference_path"], alike=alike
        ),
        load=partial(_load, conf),
        compute=partial(_match_entries, alike=alike),
        paths=paths,
    )
    return Work(
        match_path, list(map(to_line, pairs)), task, lambda _: None, MAX_PAIRS_PER_SHARD, in_blocks
    )


def require_names(conf: Mapping[str, Any], names: Collection[str]) -> None:
    """Check that the model of a conf can match images of these names; hloc's cannot match all.

    Raises:
        DiskHlocError: the model is hloc's, and a name does not fit hloc's lists.
    """
    if not models.has("matchers", conf["model"]["name"]):
        require_names_of_hloc(names)


def made_with(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the matches depend on, as their file remembers it."""
    model = conf["model"]
    identity = models.load("matchers", model["name"]).identity(model)
    return {FORMAT_KEY: FORMAT, "model": identity}


def in_blocks(lines: Sequence[str], size: int) -> list[str]:
    """Order lines of a pairs file so that each ``size`` successive ones share images."""
    return list(map(to_line, nearby_order(map(from_line, lines), 2 * math.isqrt(size))))


def _plan(
    lines: Sequence[str],
    found: Mapping[str, Fingerprint | None],
    match_path: Path,
    *,
    feature_path: Path,
    reference_path: Path,
    alike: Collection[str],
) -> Plan:
    group_of = {line: stored_group(from_line(line), found, alike) for line in lines}
    firsts, seconds = zip(*map(from_line, lines), strict=True) if lines else ((), ())
    digests = features_digests(feature_path, firsts), features_digests(reference_path, seconds)
    line_of = {group: line for line, group in group_of.items()}

    def inputs(group: str, _: Fingerprint) -> str:
        first, second = from_line(line_of[group])
        return match_inputs(
            (digests[0][first], digests[1][second]), group != pair_group(first, second, alike)
        )

    planned = plan(
        match_path, list(line_of), found, inputs,
        kinds=("pairs", "pairs"), unit="pair", verb="match",
    )  # fmt: skip
    return replace(planned, todo=[line_of[group] for group in planned.todo])


def _load(conf: Mapping[str, Any], device: str) -> tuple[Matcher, torch.device]:
    resolved = devices.resolve(device)
    return models.load("matchers", conf["model"]["name"])(conf["model"]).to(resolved), resolved


def _match_entries(
    loaded: tuple[Matcher, torch.device],
    lines: Sequence[str],
    store: Store,
    *,
    feature_path: Path,
    reference_path: Path,
    alike: Collection[str],
) -> None:
    model, device = loaded
    with ExitStack() as stack:
        opened = {
            path: stack.enter_context(reading(path)) for path in {feature_path, reference_path}
        }
        if lines:
            files = opened[feature_path], opened[reference_path]
            match_pairs(model, files, list(map(from_line, lines)), store, device, alike)


@torch.inference_mode()
def match_pairs(
    model: Matcher,
    files: tuple[h5py.File, h5py.File],
    pairs: list[Pair],
    store: Store,
    device: torch.device,
    alike: Collection[str] = (),
) -> None:
    """Match pairs and write each as it is done. Images of successive pairs are read once.

    Args:
        model: the matcher.
        files: the features of the pairs' first images, and of their second images.
        pairs: the pairs to match.
        store: the store of the matches file.
        device: the device of the model.
        alike: names that hloc cannot tell apart (:func:`disk_hloc.io.hloc.matches.pair_group`).
    """
    at_once = _images_at_once(files, pairs, model.bytes_kept.get(device.type, 0))

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

    digest = lru_cache(maxsize=None)(content_digest)
    together = model.pairs_at_once.get(device.type, 1)
    matched = devices.within_memory(
        in_batches(loaded(), together, model.takes_unequal), partial(_match, model), device
    )
    for (pair, _), found in tqdm(matched, total=len(pairs), desc="Match", unit="pair"):
        if found is None:
            raise DiskHlocError(
                f"{pair[0]} and {pair[1]} need more memory than {device} has: extract fewer "
                "keypoints (max_keypoints of the conf), or use --device cpu"
            )
        digests = digest(files[0], pair[0]), digest(files[1], pair[1])
        store.add(*match_entry(pair_group(*pair, alike), *found), match_inputs(digests))


def _match(model: Matcher, batch: list[tuple[Pair, Data]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (N0,) matches and (N0,) scores of each pair."""
    data = [data for _, data in batch]
    prediction = model(_stacked(data))
    matches, scores = (prediction[key].cpu().numpy() for key in ("matches0", "matching_scores0"))
    counts = [_counts(one)[0] for one in data]
    return [
        (ours[:count], theirs[:count])
        for ours, theirs, count in zip(matches, scores, counts, strict=True)
    ]


def in_batches(
    pairs: Iterable[tuple[Pair, Data]], at_once: int, unequal: bool
) -> Iterator[list[tuple[Pair, Data]]]:
    """Yield pairs in order, in batches of up to ``at_once`` pairs.

    Args:
        pairs: each with its data.
        at_once: the most pairs of a batch.
        unequal: whether numbers of keypoints may differ in a batch, by a factor of up to
            ``UNEQUAL``, or must be equal.
    """
    factor = UNEQUAL if unequal else 1.0
    batch: list[tuple[Pair, Data]] = []
    counts = np.empty((0, 2))
    for pair in pairs:
        grown = np.vstack([counts, _counts(pair[1])])
        if len(batch) == at_once or (grown.max(axis=0) > factor * grown.min(axis=0)).any():
            if batch:
                yield batch
            batch, grown = [], grown[-1:]
        batch, counts = [*batch, pair], grown
    if batch:
        yield batch


def _counts(data: Data) -> tuple[int, int]:
    """Return the numbers of keypoints of a pair."""
    return data["descriptors0"].shape[2], data["descriptors1"].shape[2]


def _stacked(batch: list[Data]) -> Data:
    """Join batches of one pair into one; what has fewer keypoints than another is filled up."""
    if len(batch) == 1:
        return batch[0]
    counts = np.array(list(map(_counts, batch)))
    if (counts == counts[0]).all():
        return {key: torch.cat([data[key] for data in batch]) for key in batch[0]}
    joined = {
        key: torch.cat([_filled_up(key, data[key], counts[:, int(key[-1])]) for data in batch])
        for key in batch[0]
    }
    device = joined["descriptors0"].device
    return joined | {f"num_keypoints{i}": torch.tensor(counts[:, i], device=device) for i in (0, 1)}


def _filled_up(key: str, values: Tensor, counts: np.ndarray) -> Tensor:
    """Append zeros for keypoints that are not there."""
    if key.startswith("image_size"):
        return values
    if key.startswith("keypoints"):
        return F.pad(values, (0, 0, 0, int(counts.max()) - values.shape[1]))
    return F.pad(values, (0, int(counts.max()) - values.shape[-1]))


def _require_one_length(
    files: tuple[h5py.File, h5py.File], pair: Pair, data: Mapping[str, Tensor]
) -> None:
    lengths = [data[f"descriptors{i}"].shape[1] for i in (0, 1)]
    if lengths[0] != lengths[1]:
        raise DiskHlocError(
            f"the descriptors of {pair[0]} ({files[0].filename}) have length {lengths[0]}, those "
            f"of {pair[1]} ({files[1].filename}) {lengths[1]}: extract both with the same conf"
        )


def _images_at_once(files: tuple[h5py.File, h5py.File], pairs: list[Pair], bytes_kept: int) -> int:
    """Return how many images' features, and what a matcher keeps of them, fit in the cache."""
    largest = max(
        math.prod(descriptors_shape(file, name))
        for file, names in zip(files, zip(*pairs, strict=True), strict=True)
        for name in set(names)
    )
    return max(2, CACHE_BYTES // ((4 + bytes_kept) * max(largest, 1)))
