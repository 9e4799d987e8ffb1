"""MSNetV0's network for training. It has no detector.

github.com/lin-zju/my-descriptor-space (2019) trains it on warped photos, by the hardest negatives
of known correspondences.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from disk_hloc.models.msnet_network import STRIDE, MSNetNetwork, from_published
from disk_hloc.models.resnet import load_imagenet
from disk_hloc.weights import load_into, load_msnet

from .dense import wide
from .features import Level
from .trainable import Trainable


class MSNet(Trainable):
    """MSNetV0's network for training.

    Descriptors are those of the centres of cells, which the published code misses by up to a cell.

    Args:
        imagenet: torchvision's file of ResNet-18's ImageNet weights, with which the trunk starts;
            None uses torch's initialisation.
        weights: initial parameters of all: the path of a checkpoint, as the extractor's.

    Raises:
        DiskHlocError: a file is missing, or is of another network.
    """

    stride: ClassVar[int] = STRIDE
    default_conf: ClassVar[Mapping[str, Any]] = {"imagenet": None}

    def __init__(
        self,
        imagenet: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = MSNetNetwork()
        if imagenet is not None:
            load_imagenet(self.net.trunk, imagenet)
        if weights is not None:
            load_into(self.net, from_published(load_msnet(weights)), weights, "MSNetV0")

    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        """Compute the dense descriptors of (B, 3, H, W) images, a cell for every fourth pixel."""
        return [
            (Level(wide(one), cell=(STRIDE, STRIDE), first=(0, 0)),) for one in self.net(images)
        ]

    def parts(self) -> dict[str, nn.Module]:
        """Return the trunk, and what makes descriptors of its map."""
        return {"trunk": self.net.trunk, "regress": self.net.regress}

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the parameters by the names of the extractor's network."""
        return self.net.state_dict()
