"""CFE's network for training: an autoencoder of a frozen trunk, then attention.

Lindenberger, Valentin, Frey, Wiethüchter, "Using Multi-Level Convolutional Information for Scale-
and Viewpoint-Robust Local Features" (github.com/RomeoV/deep-local-features), report, 2021.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disk_hloc.models import sampling
from disk_hloc.models.cfe_network import ENLARGED, CFENetwork, enlarge
from disk_hloc.models.resnet import load_imagenet
from disk_hloc.weights import load_cfe, load_into

from .dense import wide
from .features import Level
from .trainable import Trainable


class CFE(Trainable):
    """CFE's network for training, whose first level has a cell for every eighth pixel.

    In use, the first convolution has a stride of 1 instead of 2, and a cell for every fourth pixel.
    In validation, keypoints and descriptors are those of the first level alone.

    Args:
        depth: of the trunk: 18, 34 or 50, the report's.
        imagenet: torchvision's file of ImageNet weights, with which the trunk starts; None uses
            torch's initialisation.
        bounded: attention is ``s / (1 + s)``; the extractor needs the same.
        levels_of_gray: take images from 0 to 255, instead of normalising them; the extractor needs
            the same.
        weights: initial parameters of all: the path of a checkpoint, as the extractor's.

    Raises:
        DiskHlocError: a file is missing, or is of another network.
    """

    # Maps of the last stage, of a thirty-second of the image, are enlarged by a whole factor.
    stride: ClassVar[int] = 32
    default_conf: ClassVar[Mapping[str, Any]] = {
        "depth": 50,
        "imagenet": None,
        "bounded": False,
        "levels_of_gray": False,
    }

    def __init__(
        self,
        depth: int = 50,
        imagenet: str | os.PathLike[str] | None = None,
        bounded: bool = False,
        levels_of_gray: bool = False,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = CFENetwork(depth=depth, bounded=bounded, levels_of_gray=levels_of_gray)
        if imagenet is not None:
            load_imagenet(self.net.feature_encoder.resnet, imagenet)
        if weights is not None:
            load_into(self.net, load_cfe(weights), weights, f"CFE with ResNet-{depth}")

    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        """Compute the three levels of (B, 3, H, W) images.

        Their errors are those of the autoencoder: the mean squared difference of the trunk's
        activations and what is decoded from descriptors. They have a gradient with respect to the
        encoder alone: a trunk that is trained, too, could reach 0 by saying nothing.
        """
        encoder = self.net.feature_encoder
        activations = encoder.activations(self.net.prepared(images))
        codes = [
            enlarge(one, factor)
            for one, factor in zip(encoder.encode(activations), ENLARGED, strict=True)
        ]
        found = []
        for level, decoded, active, factor in zip(
            self.net.levels(codes), encoder.decode(codes), activations, ENLARGED, strict=True
        ):
            errors = (decoded - enlarge(active.detach(), factor)).square().mean(dim=(1, 2, 3))
            first = (level.centre, level.centre)
            found.append(
                [
                    Level(wide(one), level.stride, first, wide(scores[0]), wide(error))
                    for one, scores, error in zip(
                        level.descriptors, level.scores, errors, strict=True
                    )
                ]
            )
        return list(zip(*found, strict=True))

    def heatmaps_and_maps(self, images: Tensor) -> tuple[Tensor, list[tuple[Level, ...]]]:
        """Compute both of (B, 3, H, W) images, with one pass of the trunk: the first level."""
        level = self.net(images)[0]
        first = (level.centre, level.centre)
        maps: list[tuple[Level, ...]] = [
            (Level(wide(one), level.stride, first),) for one in level.descriptors
        ]
        height, width = images.shape[2:]
        x = torch.arange(width, device=images.device, dtype=torch.float32)
        y = torch.arange(height, device=images.device, dtype=torch.float32)
        xy = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
        places = xy.expand(len(images), -1, -1)
        found = sampling.sample(wide(level.scores), places, level.stride, level.centre)
        return found[:, 0].unflatten(1, (height, width)), maps

    def heatmaps(self, images: Tensor) -> Tensor:
        """Compute (B, H, W) attention of the first level, interpolated between its cells."""
        return self.heatmaps_and_maps(images)[0]

    def parts(self) -> dict[str, nn.Module]:
        """Return the trunk, what encodes and decodes its levels, and their attention."""
        encoder = self.net.feature_encoder
        coders = [module for name, module in encoder.named_children() if name != "resnet"]
        attentions = [
            self.net.early_attentions, self.net.middle_attentions, self.net.deep_attentions,
        ]  # fmt: skip
        return {
            "trunk": encoder.resnet,
            "encoder": nn.ModuleList(coders),
            "attention": nn.ModuleList(attentions),
        }

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the parameters by the names of the extractor's network."""
        return self.net.state_dict()
