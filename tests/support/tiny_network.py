"""A network of two parts that can be trained, small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disk_hloc.train.features import Level
from disk_hloc.train.trainable import Trainable

CELL = 4


class TinyNetwork(Trainable):
    """Descriptors and attention in cells of 4 x 4 pixels, and a detector that sees the photo."""

    stride: ClassVar[int] = CELL
    checkpoint_names: ClassVar[tuple[str, ...]] = ("tiny",)
    default_conf: ClassVar[Mapping[str, Any]] = {"channels": 8}

    def __init__(self, channels: int, weights: str | None = None) -> None:
        super().__init__()
        self.descriptor = nn.Sequential(
            nn.Conv2d(3, channels, CELL, stride=CELL), nn.BatchNorm2d(channels)
        )
        self.detector = nn.Conv2d(3, 1, 3, padding=1)
        self.attention = nn.Conv2d(channels, 1, 1)
        if weights is not None:
            self.load_state_dict(torch.load(weights, weights_only=True)["tiny"])

    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        dense = self.descriptor(images)
        scores = self.attention(dense.detach()).sigmoid()[:, 0]
        center = (CELL - 1) / 2
        return [
            (Level(one, (CELL, CELL), (center, center), score),)
            for one, score in zip(dense, scores, strict=True)
        ]

    def heatmaps(self, images: Tensor) -> Tensor:
        return self.detector(images)[:, 0]

    def parts(self) -> dict[str, nn.Module]:
        return {
            "descriptor": self.descriptor, "detector": self.detector, "attention": self.attention,
        }  # fmt: skip
