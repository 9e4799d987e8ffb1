"""DISK's network for training: kornia's U-Net with descriptors computed at keypoints only.

The parameters have the names of the released weights, and the results are those of kornia's dense
maps. The 128 descriptor channels of the last convolution, four fifths of the arithmetic, are only
evaluated at sampled keypoints, of which there is at most one per cell of 8 x 8 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from kornia.feature import DISK
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from disk_hloc.weights import fitting, load_disk

from .dense import wide
from .features import Detector, Features, Level
from .trainable import Trainable

# The U-Net halves its input four times.
STRIDE = 16


class Network(Trainable):
    """DISK's network for training.

    Args:
        desc_dim: length of a descriptor. The extractors of this package need 128.
        weights: initial parameters: ``depth``, ``epipolar`` or a path; None uses torch's
            initialisation, as the release does.
        recompute: only keep the inputs of the U-Net's blocks, and compute the rest again for the
            gradient. This takes less memory, and a tenth more time on a CPU.

    Raises:
        DiskHlocError: the weights are missing, or are those of another network.
    """

    stride: ClassVar[int] = STRIDE
    # That of the release, and the one that kornia's DISK reads.
    checkpoint_names: ClassVar[tuple[str, ...]] = ("disk", "extractor")
    default_conf: ClassVar[Mapping[str, Any]] = {"desc_dim": 128, "recompute": False}

    def __init__(
        self,
        desc_dim: int = 128,
        weights: str | os.PathLike[str] | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.desc_dim = desc_dim
        self.recompute = recompute
        self.unet: Any = DISK(desc_dim=desc_dim).unet
        if weights is not None:
            with fitting(weights, f"DISK with {desc_dim} channels"):
                self.load_state_dict(load_disk(weights))

    def features(self, images: Tensor, detect: Detector) -> list[Features]:
        """Detect and describe the keypoints of (B, 3, H, W) images."""
        gated = self.gated(images)
        found = []
        for heatmap, one in zip(self.heatmap(gated), gated, strict=True):
            xy, score = detect(heatmap)
            found.append(Features(xy, score, self.describe(one, xy)))
        return found

    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        """Compute the dense descriptors of (B, 3, H, W) images, a cell for each pixel.

        They take 512 bytes a pixel, and four fifths of the network's arithmetic.
        """
        last = self._last
        dense = F.conv2d(
            self.gated(images),
            last.weight[: self.desc_dim],
            last.bias[: self.desc_dim],
            padding="same",
        )
        return [(Level(wide(one), cell=(1, 1), first=(0, 0)),) for one in dense]

    def heatmaps(self, images: Tensor) -> Tensor:
        """Compute (B, H, W) logits of (B, 3, H, W) images."""
        return self.heatmap(self.gated(images))

    def parts(self) -> dict[str, nn.Module]:
        """Return the whole network: its last convolution detects and describes."""
        return {"unet": self.unet}

    def gated(self, images: Tensor) -> Tensor:
        """Compute the (B, 80, H, W) input of the last convolution."""
        maps = [images]
        for block in self.unet.path_down:
            maps.append(self._run(block, maps[-1]))
        bottom = maps.pop()
        for block in self.unet.path_up[:-1]:
            bottom = self._run(block, bottom, maps.pop())
        return self._run(self._last_input, bottom, maps.pop())

    def heatmap(self, gated: Tensor) -> Tensor:
        """Compute (B, H, W) logits from the (B, 80, H, W) input of the last convolution."""
        last = self._last
        heatmap = F.conv2d(
            gated, last.weight[self.desc_dim :], last.bias[self.desc_dim :], padding="same"
        )
        return wide(heatmap[:, 0])

    def describe(self, gated: Tensor, xy: Tensor) -> Tensor:
        """Compute the descriptors of one image at keypoints.

        Args:
            gated: (80, H, W) input of the last convolution.
            xy: (N, 2) int64 x and y in pixels.

        Returns:
            (N, D) of unit length.
        """
        last = self._last
        size = last.kernel_size[0]
        border = size // 2
        framed = F.pad(gated, (border,) * 4).permute(1, 2, 0)
        width = framed.shape[1]
        steps = torch.arange(size, device=xy.device)
        around = (steps[:, None] * width + steps).flatten()
        corner = xy[:, 1] * width + xy[:, 0]
        patches = framed.flatten(0, 1).index_select(0, (corner[:, None] + around).flatten())
        weight = last.weight[: self.desc_dim].permute(0, 2, 3, 1).flatten(1)
        raw = F.linear(
            patches.reshape(len(xy), weight.shape[1]),
            weight.to(patches.dtype),
            last.bias[: self.desc_dim],
        )
        return F.normalize(wide(raw), dim=1)

    @property
    def _last(self) -> Any:
        return self.unet.path_up[-1].conv[-1]

    def _last_input(self, bottom: Tensor, horizontal: Tensor) -> Tensor:
        block = self.unet.path_up[-1]
        norm, gate = block.conv[0], block.conv[1]
        return gate(norm(torch.cat([block.upsample(bottom), horizontal], dim=1)))

    def _run(self, block: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)
