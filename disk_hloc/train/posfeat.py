"""PoSFeat's networks for training: what describes and what detects, each on its own.

Li, Wang, Liu, Ran, Xu, Guo, "Decoupling Makes Weakly Supervised Local Feature Better", CVPR 2022.
The description is trained first, then the detection with the description frozen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from disk_hloc.models.posfeat_network import (
    MULTIPLE,
    STRIDE,
    PoSFeatNetwork,
    from_published,
)
from disk_hloc.models.resnet import load_imagenet
from disk_hloc.weights import load_into, load_posfeat

from .dense import wide
from .features import Level
from .trainable import Trainable


class PoSFeat(Trainable):
    """PoSFeat's network for training.

    As in the published code, the score of a pixel is its logit: it is at least 0, so that a pixel
    that is proposed is accepted with a probability of at least one half. Descriptors are sampled at
    their pixels, where that code samples about 2 pixels to the upper left.

    Args:
        depth: of the backbone's trunk: 18, 34 or 50, the paper's.
        imagenet: torchvision's file of ImageNet weights, with which the trunk starts; None uses
            torch's initialisation.
        weights: initial parameters of all: the path of a checkpoint, as the extractor's.

    Raises:
        DiskHlocError: a file is missing, or is of another network.
    """

    stride: ClassVar[int] = MULTIPLE
    default_conf: ClassVar[Mapping[str, Any]] = {"depth": 50, "imagenet": None}

    def __init__(
        self,
        depth: int = 50,
        imagenet: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = PoSFeatNetwork(depth)
        if imagenet is not None:
            load_imagenet(self.net.backbone.trunk, imagenet)
        if weights is not None:
            parameters = from_published(load_posfeat(weights))
            load_into(self.net, parameters, weights, f"PoSFeat with ResNet-{depth}")

    def heatmaps_and_maps(self, images: Tensor) -> tuple[Tensor, list[tuple[Level, ...]]]:
        """Compute both of (B, 3, H, W) images, with one pass of the backbone."""
        found = self.net(images)
        return wide(found.scores[:, 0]), [(_level(one),) for one in found.descriptors]

    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        """Compute the dense descriptors of (B, 3, H, W) images, a cell for every fourth pixel."""
        return [(_level(one),) for one in self.net.describe(images)]

    def heatmaps(self, images: Tensor) -> Tensor:
        """Compute (B, H, W) scores of (B, 3, H, W) images, at least 0."""
        return self.heatmaps_and_maps(images)[0]

    def parts(self) -> dict[str, nn.Module]:
        """Return what describes and what detects."""
        return {"backbone": self.net.backbone, "detector": self.net.localheader}

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the parameters by the names of the extractor's network."""
        return self.net.state_dict()


def _level(descriptors: Tensor) -> Level:
    return Level(wide(descriptors), cell=(STRIDE, STRIDE), first=(0, 0))
