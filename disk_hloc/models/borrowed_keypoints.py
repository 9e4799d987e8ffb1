"""Keypoints of one extractor, for another that only describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from . import load
from .base import Extractor

# What ``keypoints`` may be in a conf -> the extractor whose keypoints are described.
DETECTORS = {"sift": "opencv_sift", "disk": "disk"}


def detector(keypoints: str) -> Extractor:
    """Return the extractor that detects, with its own defaults and all its keypoints.

    Args:
        keypoints: a key of :data:`DETECTORS`.

    Raises:
        DiskHlocError: its weights are missing.
    """
    conf: dict[str, Any] = {"max_keypoints": None}
    return load("extractors", DETECTORS[keypoints])(conf)


def keypoints_of(model: Extractor, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the keypoints of each image, of several at one place the best.

    SIFT has several where it finds several orientations, which these describers do not know.

    Args:
        model: the extractor that detects.
        image: (B, 3, H, W) RGB or (B, 1, H, W) grayscale, float in [0, 1].

    Yields:
        (N, 2) float32 x and y in pixels, by x, then y; (N,) scores.
    """
    for found in model.detect(image):
        every = [torch.arange(len(scores), device=scores.device) for scores in found.scores]
        for xy, scores in zip(found.locate(every), found.scores, strict=True):
            places, at = torch.unique(xy, dim=0, return_inverse=True)
            best = scores.new_full((len(places),), -torch.inf)
            best = best.scatter_reduce(0, at, scores, "amax")
            yield places.to(image.device), best.to(image.device)
