"""How well the photos of a map agree with its points: what a query of the same place can reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc import models
from disk_hloc.io.hloc.features import read_features
from disk_hloc.io.map_folder import MapFolder
from disk_hloc.io.map_index import MapIndex
from disk_hloc.io.store import reading
from disk_hloc.models.base import Matcher

from . import map_matching

# Photos that are asked for, photos that each is matched with, and keypoints of each, as of a query.
_NUM_ASKED = 16
_NUM_RETRIEVED = 5
_MAX_KEYPOINTS = 2048
_MAX_ERROR_PX = 12.0


def measure(made: MapFolder, index: MapIndex) -> float | None:
    """Match some photos of a map with those that look like them, as queries are.

    Args:
        made: the map; its features exist.
        index: of the map.

    Returns:
        The median share of the pairs of keypoint and point that agree with the known pose of their
        photo; None if no photo has another one to be matched with.
    """
    count = len(index.names)
    if count < 2:
        return None
    name = made.matcher["model"]["name"]
    matcher = models.load("matchers", name)(made.matcher["model"]).eval()
    asked = np.unique(np.linspace(0, count - 1, min(_NUM_ASKED, count)).round().astype(int))
    shares = []
    for image in tqdm(asked, desc="Agreement", unit="image"):
        share = _share(matcher, made.features, index, int(image))
        if share is not None:
            shares.append(share)
    return float(np.median(shares)) if shares else None


def _share(matcher: Matcher, feature_path: Path, index: MapIndex, image: int) -> float | None:
    """Return the share of a photo's pairs of keypoint and point that agree with its pose."""
    similarities = index.global_descriptors @ index.global_descriptors[image]
    similarities[image] = -np.inf
    nearest = np.argsort(-similarities, kind="stable")[: min(_NUM_RETRIEVED, len(similarities) - 1)]
    with reading(feature_path) as file:
        arrays = read_features(file, index.names[image])
    # The strongest are not known here; every n-th stands for them.
    total = len(arrays["keypoints"])
    chosen = np.linspace(0, total - 1, min(total, _MAX_KEYPOINTS)).round().astype(int)
    if len(chosen) < 2:
        return None
    keypoints = arrays["keypoints"][chosen]
    device = matcher.device
    query = map_matching.as_tensors(
        keypoints, arrays["descriptors"][:, chosen].T, index.sizes[image], device
    )
    matched = map_matching.match(
        matcher, query, index, nearest.tolist(),
        lambda other: map_matching.tensors_of(index, other, device),
    )  # fmt: skip
    keypoint, row = np.concatenate(matched).T
    found = np.unique(np.stack([keypoint, index.points[row]], axis=1), axis=0)
    if not len(found):
        return None
    pose = index.pose(image)
    camera = pycolmap.Camera(**index.cameras[index.camera_ids[image]])
    seen = index.xyz[found[:, 1]] @ pose.rotation.T + pose.translation
    pixels = np.asarray(camera.img_from_cam(seen), np.float64).reshape(-1, 2) - 0.5
    errors = np.linalg.norm(pixels - keypoints[found[:, 0]], axis=1)
    return float((errors <= _MAX_ERROR_PX).mean())
