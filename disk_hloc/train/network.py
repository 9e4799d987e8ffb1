"""DISK's network for training: kornia's U-Net with descriptors computed at keypoints only.

The parameters have the names of the released weights, and the results are those of kornia's dense
maps. The 128 descriptor channels of the last convolution, four fifths of the arithmetic, are only
evaluated at sampled keypoints, of which there is at most one per cell of 8 x 8 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from kornia.feature import DISK
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import fitting, load_disk

# The U-Net halves its input four times.
STRIDE = 16

# Finds the keypoints of a heatmap: (H, W) -> (N, 2) int64 x and y, and their (N,) log-probabilities
# or scores.
Detector = Callable[[Tensor], tuple[Tensor, Tensor]]


class Features(NamedTuple):
    """The features of one image.

    Attributes:
        xy: (N, 2) int64 x and y in pixels, (0, 0) at the centre of the top-left pixel.
        score: (N,) log-probability of sampling each keypoint, or its logit.
        descriptors: (N, D) of unit length.
    """

    xy: Tensor
    score: Tensor
    descriptors: Tensor

    def detached(self) -> Features:
        """Return a copy detached from the network, whose tensors accumulate gradients."""
        return Features(
            self.xy,
            self.score.detach().requires_grad_(),
            self.descriptors.detach().requires_grad_(),
        )


class Network(nn.Module):
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

    def forward(self, images: Tensor, detect: Detector) -> list[Features]:
        """Compute the features of a batch of images.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W are multiples of 16.
            detect: function that finds the keypoints of each heatmap.
        """
        gated = self.gated(images)
        found = []
        for heatmap, one in zip(self.heatmap(gated), gated, strict=True):
            xy, score = detect(heatmap)
            found.append(Features(xy, score, self.describe(one, xy)))
        return found

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
        return _wide(heatmap[:, 0])

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
        return F.normalize(_wide(raw), dim=1)

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


def require_divisible(height: int, width: int, cell: int) -> None:
    """Check that images of a size in pixels can be halved four times and divided into cells.

    Raises:
        DiskHlocError: the size is not divisible, or too small for instance normalization.
    """
    for name, side in (("height", height), ("width", width)):
        if side % STRIDE or side % cell:
            raise DiskHlocError(
                f"the {name} must be a multiple of {STRIDE} and of the cell size {cell}, found "
                f"{side} px"
            )
    if min(height, width) < 2 * STRIDE:
        raise DiskHlocError(
            f"images of {width}x{height} px are too small: use at least {2 * STRIDE} px"
        )


def split(features: Sequence[Features], per_tuple: int) -> list[list[Features]]:
    """Split the features of a batch's images into tuples."""
    return [list(features[i : i + per_tuple]) for i in range(0, len(features), per_tuple)]


def _wide(values: Tensor) -> Tensor:
    """Convert to at least float32, which probabilities and unit lengths need."""
    return values if values.dtype == torch.float64 else values.float()
