"""From photos and pairs to features and matches at once, by matchers without a detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.hloc.matches import (
    match_entry,
    names_alike,
    pair_group,
    require_names_of_hloc,
)
from disk_hloc.io.hloc.pairs import Pair, nearby_order, read_pairs
from disk_hloc.io.images import ImageReadError, resize_image
from disk_hloc.io.inputs import Inputs
from disk_hloc.io.loader import DEFAULT_PREPROCESSING, Photo, in_original, load_photo
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import (
    FORMAT,
    FORMAT_KEY,
    Fingerprint,
    Plan,
    Store,
    plan,
    reading,
    writing,
)
from disk_hloc.io.store.hdf5 import read
from disk_hloc.io.store.journal import Dataset
from disk_hloc.models.base import DenseMatcher

from . import through_hloc

# Photos that stay in memory.
PHOTOS_AT_ONCE = 16


def main(
    conf: Mapping[str, Any],
    pairs_path: Path,
    image_dir: Path,
    feature_path: Path,
    match_path: Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
) -> tuple[Path, Path]:
    """Match pairs of photos, and make keypoints of the ends of their matches.

    The ends as they were found are kept beside ``match_path``, so a run that was stopped resumes.
    A conf whose model is not ours runs through hloc's own ``match_dense.main``.

    Args:
        conf: ``{output, model, preprocessing, cell_size}``; see configs/dense.yaml.
        pairs_path: the pairs file.
        image_dir: the photos.
        feature_path: the features file to make, without descriptors.
        match_path: the matches file to make.
        overwrite: match from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``feature_path`` and ``match_path``.

    Raises:
        DiskHlocError: a broken pairs file, a photo that cannot be read, no weights, no space, or
            a file made with another conf.
    """
    require_output(feature_path, "hdf5", {"pairs": pairs_path})
    require_output(match_path, "hdf5", {"pairs": pairs_path, "new features": feature_path})
    model_name = conf["model"]["name"]
    pairs = read_pairs(pairs_path)
    names = {name for pair in pairs for name in pair}
    if not models.has("dense", model_name):
        require_names_of_hloc(names)
        return through_hloc.match_dense(
            conf, pairs_path, image_dir, feature_path, match_path, overwrite
        )
    group_of = _groups(pairs)
    model = models.load("dense", model_name)(conf["model"]).to(devices.resolve(device))
    ends = ends_path(match_path)
    with writing(ends, _made_with(conf), overwrite=overwrite) as store:
        planned, inputs = _plan(group_of, store.entries("keypoints0"), ends, image_dir)
        planned.log()
        store.drop(planned.outdated)
        wanted = set(planned.todo)
        todo = {pair: group for pair, group in group_of.items() if group in wanted}
        match_pairs(model, image_dir, todo, conf["preprocessing"], store, inputs)
        inputs.save()
    aggregate(
        ends,
        pairs,
        feature_path,
        match_path,
        cell_size=conf["cell_size"],
        max_keypoints=conf["model"].get("max_keypoints"),
    )
    return feature_path, match_path


def _groups(pairs: Sequence[Pair]) -> dict[Pair, str]:
    """Return pair -> its group in the files of matches and of their ends."""
    alike = names_alike(name for pair in pairs for name in pair)
    return {pair: pair_group(*pair, alike) for pair in pairs}


def _made_with(conf: Mapping[str, Any]) -> dict[str, Any]:
    model = conf["model"]
    identity = models.load("dense", model["name"]).identity(model)
    # Keypoints are made of the ends of matches, which do not depend on how many are kept.
    return {
        FORMAT_KEY: FORMAT,
        "model": {**identity, "max_keypoints": None},
        "preprocessing": {**DEFAULT_PREPROCESSING, **conf["preprocessing"], "grayscale": True},
    }


def _plan(
    group_of: Mapping[Pair, str],
    found: Mapping[str, Fingerprint | None],
    ends: Path,
    image_dir: Path,
) -> tuple[Plan, Inputs]:
    """Return which pairs have to be matched, and the digests of the photos."""
    inputs = Inputs(ends, image_dir)
    pair_of = {group: pair for pair, group in group_of.items()}
    photo = lru_cache(maxsize=None)(inputs.of)

    def now(group: str, _: Fingerprint) -> str | None:
        digests = [photo(name) for name in pair_of[group]]
        return None if None in digests else " ".join(map(str, digests))

    planned = plan(ends, list(pair_of), found, now, kinds=("pairs",) * 4, unit="pair", verb="match")
    return planned, inputs


def ends_path(match_path: Path) -> Path:
    """Return the file beside the matches that holds the ends of matches as they were found."""
    return match_path.with_name(f"{match_path.stem}_ends.h5")


@torch.inference_mode()
def match_pairs(
    model: DenseMatcher,
    image_dir: Path,
    group_of: Mapping[Pair, str],
    preprocessing: Mapping[str, Any],
    store: Store,
    inputs: Inputs,
) -> None:
    """Match pairs and write each to its group as it is done, in pixels of the original photos."""

    @lru_cache(maxsize=PHOTOS_AT_ONCE)
    def load(name: str) -> Photo:
        try:
            photo = load_photo(image_dir, name, {**preprocessing, "grayscale": True})
        except ImageReadError as error:
            raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
        height, width = (
            max(model.stride, side // model.stride * model.stride) for side in photo.image.shape[1:]
        )
        image = photo.image[0]
        if image.shape != (height, width):
            image = resize_image(image, (width, height), "cv2_area")
        assert photo.seen is not None
        inputs.note(name, photo.seen)
        return dataclasses.replace(photo, image=image[None])

    ordered = nearby_order(group_of, PHOTOS_AT_ONCE)
    for pair in tqdm(ordered, desc="Match", unit="pair", disable=not ordered):
        photos = [load(name) for name in pair]
        found = model(
            {
                f"image{i}": torch.from_numpy(photo.image)[None].to(model.device)
                for i, photo in enumerate(photos)
            }
        )
        ends = {"scores": found["scores"].cpu().numpy()}
        for i, photo in enumerate(photos):
            ends[f"keypoints{i}"] = in_original(photo, found[f"keypoints{i}"].cpu().numpy())
            ends[f"size{i}"] = np.array(photo.original_size)
        group = group_of[pair]
        seen = " ".join(photo.seen.inputs for photo in photos if photo.seen is not None)
        store.add(group, [Dataset(f"{group}/{key}", array) for key, array in ends.items()], seen)


def aggregate(
    path: Path,
    pairs: Sequence[Pair],
    feature_path: Path,
    match_path: Path,
    *,
    cell_size: float,
    max_keypoints: int | None,
) -> None:
    """Make each photo's keypoints of the ends of all its matches, and matches of these.

    A keypoint is the mean of the ends in a square cell of the photo, weighted by the scores, and
    its score is their sum. Of the matches of a pair that share a keypoint, the best is kept.

    Args:
        path: the file of :func:`match_pairs`.
        pairs: the pairs to take from it.
        feature_path: the features file to make.
        match_path: the matches file to make.
        cell_size: the cell's side in pixels.
        max_keypoints: how many keypoints of a photo are kept, the best, with their matches; None
            keeps all.
    """
    group_of = _groups(pairs)
    sides: dict[str, list[tuple[Pair, int]]] = {}
    for pair in pairs:
        for i, name in enumerate(pair):
            sides.setdefault(name, []).append((pair, i))
    counts = {}
    conf = {"ends": path.name, "cell_size": cell_size, "max_keypoints": max_keypoints}
    ids: dict[tuple[Pair, int], np.ndarray] = {}
    with (
        reading(path) as file,
        writing(feature_path, conf, overwrite=True) as features_store,
        writing(match_path, conf, overwrite=True) as matches_store,
    ):
        for name, places in tqdm(sides.items(), desc="Aggregate", unit="image"):
            groups = [group_of[pair] for pair, _ in places]
            ends = [
                read(file, f"{group}/keypoints{i}", (None, 2))
                for group, (_, i) in zip(groups, places, strict=True)
            ]
            keypoints, scores, of_end = merge(
                np.concatenate(ends),
                np.concatenate([read(file, f"{group}/scores", (None,)) for group in groups]),
                cell_size,
                max_keypoints,
            )
            features = {
                "keypoints": keypoints,
                "keypoint_scores": scores,
                "scores": scores,
                "image_size": read(file, f"{groups[0]}/size{places[0][1]}", (2,)),
            }
            features_store.add(*feature_entry(name, features, cell_size))
            counts[name] = len(keypoints)
            splits = np.cumsum([len(part) for part in ends])[:-1]
            ids.update(zip(places, np.split(of_end, splits), strict=True))
        for pair in tqdm(pairs, desc="Write matches", unit="pair"):
            scores = read(file, f"{group_of[pair]}/scores", (None,))
            matches0, scores0 = unique_matches(ids[pair, 0], ids[pair, 1], scores, counts[pair[0]])
            matches_store.add(*match_entry(group_of[pair], matches0, scores0))


def merge(
    ends: np.ndarray, scores: np.ndarray, cell_size: float, max_keypoints: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge ends of matches into keypoints.

    Args:
        ends: (E, 2) x and y in pixels.
        scores: (E,).
        cell_size: all ends in a cell of this side are one keypoint.
        max_keypoints: as in :func:`aggregate`.

    Returns:
        (N, 2) float32 keypoints, (N,) float32 sums of scores, and (E,) int64, the keypoint of
        each end, -1 if it is dropped.
    """
    cells, of_end = np.unique(np.floor((ends + 0.5) / cell_size), axis=0, return_inverse=True)
    of_end = of_end.reshape(-1)
    weights = np.bincount(of_end, scores, len(cells))
    sums = [np.bincount(of_end, scores * ends[:, axis], len(cells)) for axis in (0, 1)]
    keypoints = (np.stack(sums, axis=1) / weights[:, None]).astype(np.float32)
    # Sorted by place, so that the order does not depend on that of the pairs.
    kept = np.sort(np.argsort(-weights, kind="stable")[:max_keypoints])
    renumbered = np.full(len(cells), -1)
    renumbered[kept] = np.arange(len(kept))
    return keypoints[kept], weights[kept].astype(np.float32), renumbered[of_end]


def unique_matches(
    ids0: np.ndarray, ids1: np.ndarray, scores: np.ndarray, count0: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose matches so that each keypoint has one at most, the best first.

    Args:
        ids0: (K,) integer keypoints of the first image, -1 for none.
        ids1: (K,) likewise, of the second image.
        scores: (K,) scores of the matches.
        count0: number of keypoints of the first image.

    Returns:
        (N0,) int64 matches and (N0,) float32 scores, as in :mod:`disk_hloc.io.hloc.matches`.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[(ids0[order] >= 0) & (ids1[order] >= 0)]
    for ids in (ids0, ids1):
        order = order[np.sort(np.unique(ids[order], return_index=True)[1])]
    matches0, scores0 = np.full(count0, -1), np.zeros(count0, np.float32)
    matches0[ids0[order]] = ids1[order]
    scores0[ids0[order]] = scores[order]
    return matches0, scores0
