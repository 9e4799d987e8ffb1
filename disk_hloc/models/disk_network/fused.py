"""DISK's network on a GPU: cuDNN's convolutions, and between them one kernel a step.

It computes what :class:`disk_hloc.models.disk_network.unet.UNet` computes, in the order that its
module explains, and has its methods. On a GPU the time goes into memory traffic and into starting
kernels; see :mod:`.kernels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .unet import BORDER, DESCRIPTOR_DIM, DOWN, EPSILON, Gated, UNet

if TYPE_CHECKING:
    from .kernels import Summed

# Tensor cores take input channels by eight.
_INPUT_CHANNELS = 8
# One size of matrix product, for the reason in UNet.describe.
_DESCRIBED_AT_ONCE = 2048


class FusedUNet:
    """DISK's U-Net on a GPU.

    Args:
        unet: has the parameters, on the GPU.
    """

    def __init__(self, unet: UNet) -> None:
        # Imported here: a kernel is compiled for a GPU that exists.
        from . import kernels

        self.unet = unet
        self.kernels = kernels

    def __call__(self, image: Tensor, dtype: torch.dtype) -> Gated:
        """Compute the input of the last convolution; see :meth:`UNet.forward`."""
        batch, channels, height, width = image.shape
        pixels = image.new_zeros(batch, height, width, _INPUT_CHANNELS, dtype=dtype)
        pixels[..., :channels] = image.permute(0, 2, 3, 1)
        maps, sums = [self._convolve(0, pixels)], []
        for i in range(1, DOWN):
            pooled, full_sums, pooled_sums = self.kernels.halve(maps[-1])
            sums.append(full_sums)
            normalisation = self.kernels.normalisation(pooled_sums, None, EPSILON)
            gated = self.kernels.gate(pooled, None, *normalisation, self._slope(i))
            maps.append(self._convolve(i, gated))
        bottom = maps.pop()
        for i in range(DOWN, self.unet.last):
            joined = self._join(i, maps.pop(), sums.pop(), bottom)
            gated = self.kernels.gate(
                joined.plain, bottom, joined.scale, joined.shift, joined.slope
            )
            bottom = self._convolve(i, gated)
        return self._join(self.unet.last, maps.pop(), sums.pop(), bottom)

    def _join(self, i: int, plain: Tensor, sums: Summed, smaller: Tensor) -> Gated:
        """Normalise two maps, the input of layer ``i``."""
        of_smaller = self.kernels.doubled_sums(smaller)
        normalisation = self.kernels.normalisation(of_smaller, sums, EPSILON)
        return Gated(plain, smaller, *normalisation, self._slope(i))

    def _slope(self, i: int) -> Tensor:
        return self.unet.get_buffer(f"slope{i}")

    def _convolve(self, i: int, gated: Tensor) -> Tensor:
        """Apply layer ``i`` to its (B, H, W, C) input."""
        weight = self.unet.weight_of(i, gated.dtype, gated.shape[3])
        convolved = F.conv2d(gated.permute(0, 3, 1, 2), weight, padding=BORDER)
        return convolved.permute(0, 2, 3, 1).contiguous()

    def heatmap(self, gated: Gated) -> Tensor:
        """Compute the (B, H, W) float32 logits; see :meth:`UNet.heatmap`."""
        assert gated.smaller is not None
        return self.kernels.convolve_to_one(
            gated.plain, gated.smaller, gated.scale, gated.shift, gated.slope,
            self.unet.taps, self.unet.bias[DESCRIPTOR_DIM:],
        )  # fmt: skip

    def describe(self, gated: Gated, places: Tensor) -> Tensor:
        """Compute descriptors; see :meth:`UNet.describe`.

        Args:
            gated: of a batch of images.
            places: (N, 3) int64, the index of the image, y and x in pixels.

        Returns:
            (128, N) float32 of unit length.
        """
        assert gated.smaller is not None
        bias = self.unet.bias[:DESCRIPTOR_DIM, None]
        if not len(places):
            return bias.new_zeros(DESCRIPTOR_DIM, 0)
        described = []
        padded = F.pad(places, (0, 0, 0, -len(places) % _DESCRIBED_AT_ONCE))
        for block in padded.split(_DESCRIBED_AT_ONCE):
            patches = self.kernels.patches(
                gated.plain, gated.smaller, gated.scale, gated.shift, gated.slope, block
            )
            described.append(torch.addmm(bias, self.unet.descriptor_weight, patches.T))
        return F.normalize(torch.cat(described, dim=1)[:, : len(places)], dim=0)

    def find_keypoints(
        self, heatmaps: Tensor, window_size: int, threshold: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Find the keypoints of each image; see :func:`.keypoints.find_keypoints`.

        Args:
            heatmaps: (B, H, W) float32.

        Returns:
            For each image (N, 3) int64, the index of the image, y and x; (N,) scores.
        """
        found = self.kernels.strict_maxima(heatmaps, window_size, threshold)
        # Once for all images: each time the GPU would have to wait.
        counts = found.sum(dim=(1, 2), dtype=torch.int64).tolist()
        places = torch.nonzero(found)
        scores = heatmaps[places.unbind(dim=1)]
        return list(places.split(counts)), list(scores.split(counts))

    def refine_keypoints(self, heatmaps: Tensor, places: Tensor) -> Tensor:
        """Move maxima between the pixels; see :func:`.keypoints.refine_keypoints`.

        Args:
            heatmaps: (B, H, W) float32.
            places: (N, 3) int64, the index of the image, y and x.

        Returns:
            (N, 2) float32 x and y.
        """
        return self.kernels.refine(heatmaps, places)
