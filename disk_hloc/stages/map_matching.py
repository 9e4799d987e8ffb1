"""A photo's features, matched with those of a map's photos: which points its keypoints may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from disk_hloc.io.map_index import MapIndex
from disk_hloc.models.base import Matcher


def as_tensors(
    keypoints: np.ndarray, descriptors: np.ndarray, size: np.ndarray, device: torch.device
) -> dict[str, Tensor]:
    """Return what a matcher takes of one photo.

    Args:
        keypoints: (N, 2) pixels.
        descriptors: (N, D).
        size: (2,) width and height in pixels.
        device: that of the matcher.
    """
    values = {"keypoints": keypoints, "image_size": size, "descriptors": descriptors}
    tensors = {
        key: torch.from_numpy(np.asarray(value, np.float32))[None].to(device)
        for key, value in values.items()
    }
    return {**tensors, "descriptors": tensors["descriptors"].mT}


def tensors_of(index: MapIndex, image: int, device: torch.device) -> dict[str, Tensor]:
    """Return what a matcher takes of the keypoints of a map's photo that see a point."""
    rows = index.rows(image)
    return as_tensors(index.keypoints[rows], index.descriptors[rows], index.sizes[image], device)


@torch.inference_mode()
def match(
    matcher: Matcher,
    query: Mapping[str, Tensor],
    index: MapIndex,
    images: Sequence[int],
    read: Callable[[int], Mapping[str, Tensor]],
) -> list[np.ndarray]:
    """Match a photo with some of a map.

    Args:
        matcher: the map's.
        query: :func:`as_tensors` of the photo.
        index: of the map.
        images: the map's photos.
        read: returns :func:`tensors_of` one of them.

    Returns:
        For each of them (K, 2) int64: a keypoint of the photo, and the row of the index's keypoint
        that it was matched with.
    """
    first = {f"{key}0": value for key, value in query.items()}
    found = []
    for image in images:
        second = {f"{key}1": value for key, value in read(image).items()}
        matches = matcher({**first, **second})["matches0"][0].cpu().numpy()
        matched = np.flatnonzero(matches >= 0)
        rows = index.rows(image).start + matches[matched]
        found.append(np.stack([matched, rows], axis=1))
    return found
