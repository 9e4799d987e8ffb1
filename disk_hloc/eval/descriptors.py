"""How well descriptors distinguish positions, independently of the detector.

Wang, Zhou, Hariharan, Snavely, "Learning Feature Descriptors using Camera Pose Supervision" (CAPS),
ECCV 2020, measures the share of correct keypoints (PCK) over random positions. A position in the
first photo is correct if, of all true correspondences in the second photo, the one with the nearest
descriptor is up to 5 px from its own. Here positions are uniformly random in the first photo, those
that the second photo does not see are left out, and descriptors are those of the position, or of
the nearest pixel where a network describes whole pixels. It must be able to describe any position.
:mod:`disk_hloc.eval.pck` measures at corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.hpatches import kind_of
from disk_hloc.io.hloc.features import feature_entry, read_keypoints
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.images import ImageReadError
from disk_hloc.io.inputs import Inputs
from disk_hloc.io.loader import Photo, load_photo
from disk_hloc.io.store import reading, writing
from disk_hloc.io.store.hdf5 import read
from disk_hloc.io.store.journal import Dataset
from disk_hloc.models.base import Extractor

from .hpatches import by_kind, mean_of_known
from .planes import inside, transfer

NUM_POSITIONS = 1000
CORRECT_WITHIN_PX = 5.0


def applies_to(conf: Mapping[str, Any]) -> bool:
    """Return whether an extractor conf's model describes any pixel."""
    name = conf["model"]["name"]
    return models.has("extractors", name) and models.load("extractors", name).describes_pixels


def describe(
    conf: Mapping[str, Any],
    image_dir: Path,
    homographies: Mapping[Pair, np.ndarray],
    path: Path,
    *,
    num_positions: int = NUM_POSITIONS,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Describe random positions of first photos and their correspondences in the others.

    Args:
        conf: an extractor conf whose model describes any pixel, as DISK.
        image_dir: the photos.
        homographies: of the pairs; a first photo is the first in all its pairs.
        path: the features file to write or to resume; ``indices`` (N,) are those of the
            positions in the first photo.
        num_positions: how many positions a first photo gets.
        seed: of the positions.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``path``.

    Raises:
        DiskHlocError: a photo cannot be read, or the file was made with other settings.
    """
    made_with = {
        "model": conf["model"],
        "preprocessing": conf["preprocessing"],
        "positions": [num_positions, seed],
    }
    inputs = Inputs(path, image_dir)
    with writing(path, made_with) as store:
        found = store.entries("keypoints", "image_size")
        changed = {name for name, of in found.items() if of and of.inputs != inputs.of(name)}
        # The positions in the second photo depend on the size of the first.
        changed |= {pair[1] for pair in homographies if pair[0] in changed}
        store.drop(changed)
        done = set(found) - changed
        todo = [pair for pair in homographies if not done.issuperset(pair)]
        model_class = models.load("extractors", conf["model"]["name"])
        model = model_class(conf["model"]).to(devices.resolve(device))
        first, positions = "", np.empty((0, 2))
        for pair in tqdm(todo, desc="Describe", unit="pair", disable=not todo):
            if pair[0] != first:
                first, photo = pair[0], _load(image_dir, pair[0], conf)
                rng = np.random.default_rng([seed, *first.encode()])
                drawn = rng.uniform(size=(num_positions, 2)) * photo.original_size - 0.5
                # As they will be read from the file.
                positions = drawn.astype(np.float32).astype(np.float64)
                if first not in done:
                    entry = _describe(model, photo, positions, np.arange(num_positions))
                    store.add(*entry, _inputs(photo))
                    done.add(first)
            photo = _load(image_dir, pair[1], conf)
            moved = transfer(homographies[pair], positions)
            seen = np.flatnonzero(inside(moved, photo.original_size))
            store.add(*_describe(model, photo, moved[seen], seen), _inputs(photo))
    inputs.save()
    return path


def evaluate(path: Path, homographies: Mapping[Pair, np.ndarray]) -> dict[str, float | None]:
    """Return the PCK of each kind of scene, and of all, averaged over pairs.

    Args:
        path: the file that :func:`describe` wrote.
        homographies: of the pairs.

    Returns:
        ``illumination``, ``viewpoint``, ``all`` -> 0 to 1, None where no position is in view.
    """
    values = []
    with reading(path) as file:
        for pair in homographies:
            indices = read(file, f"{pair[1]}/indices", (None,), "iu")
            descriptors0 = read(file, f"{pair[0]}/descriptors", (None, None))
            if indices.max(initial=-1) >= descriptors0.shape[1] or indices.min(initial=0) < 0:
                raise DiskHlocError(f"{path}: the indices of {pair[1]} are not of {pair[0]}")
            descriptors0 = descriptors0.astype(np.float32)[:, indices]
            descriptors1 = read(file, f"{pair[1]}/descriptors", (None, len(indices)))
            descriptors1 = descriptors1.astype(np.float32)
            values.append(share_correct(descriptors0, descriptors1, read_keypoints(file, pair[1])))
    kinds = by_kind([kind_of(pair) for pair in homographies])
    return {kind: mean_of_known(np.array(values)[which]) for kind, which in kinds.items()}


def share_correct(
    descriptors0: np.ndarray,
    descriptors1: np.ndarray,
    positions1: np.ndarray,
    within: float = CORRECT_WITHIN_PX,
) -> float:
    """Return the share of positions whose nearest descriptor belongs to a position close by.

    Args:
        descriptors0: (D, N) of unit length, at the positions in the first photo.
        descriptors1: (D, N) of unit length, at the true correspondences, in the same order.
        positions1: (N, 2) pixels of the correspondences.
        within: the greatest distance in pixels.

    Returns:
        0 to 1, NaN without positions.
    """
    if len(positions1) == 0:
        return float("nan")
    nearest = (descriptors0.T @ descriptors1).argmax(axis=1)
    return float((np.linalg.norm(positions1[nearest] - positions1, axis=1) <= within).mean())


def _inputs(photo: Photo) -> str:
    return "" if photo.seen is None else photo.seen.inputs


def _load(folder: Path, name: str, conf: Mapping[str, Any]) -> Photo:
    try:
        return load_photo(folder, name, conf["preprocessing"])
    except ImageReadError as error:
        raise DiskHlocError(f"{folder / name}: {error}; unpack the data set again") from error


@torch.inference_mode()
def _describe(
    model: Extractor, photo: Photo, positions: np.ndarray, indices: np.ndarray
) -> tuple[str, list[Dataset]]:
    resized = np.array(photo.image.shape[:0:-1])
    scale = resized / photo.original_size
    xy = ((positions + 0.5) * scale - 0.5).clip(0, resized - 1)
    image = torch.from_numpy(photo.image)[None].to(model.device)
    descriptors = model.describe(image, torch.from_numpy(xy).to(model.device))
    features: dict[str, np.ndarray] = {
        "keypoints": positions.astype(np.float32),
        "descriptors": descriptors.cpu().numpy().astype(np.float16),
        "indices": indices,
        "image_size": np.array(photo.original_size),
    }
    return feature_entry(photo.name, features, float((1 / scale).mean()))
