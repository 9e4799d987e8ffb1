"""PoSFeat's networks: a ResUNet that describes, and a head that detects.

Li, Wang, Liu, Ran, Xu, Guo, "Decoupling Makes Weakly Supervised Local Feature Better", CVPR 2022.
The description network is that of CAPS (Wang, Zhou, Hariharan, Snavely, ECCV 2020) with a quarter
of the resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.weights import renamed

from .resnet import STEM_CHANNELS, ResNet, depth_of, normalized

DESCRIPTOR_DIM = 128
# Sides of images are multiples of it, in pixels.
MULTIPLE = 16
# Of the maps of descriptors, in pixels. Cell (0, 0) is centred on pixel (0, 0).
STRIDE = 4
IMAGE_CHANNELS = 64
SCORE_CHANNELS = 128
# Channels that are convolved together: more would leave the caches of a CPU.
AT_ONCE = 8

# Names of a published checkpoint's parameters -> ours.
_NAMES = {
    "backbone.firstconv.": "backbone.trunk.conv1.",
    "backbone.firstbn.": "backbone.trunk.bn1.",
    "backbone.layer": "backbone.trunk.layer",
    "localheader.relu.": "localheader.prelu.",
}


class Maps(NamedTuple):
    """What the network makes of images of H x W pixels.

    Attributes:
        descriptors: (B, 128, H/4, W/4), not normalised.
        scores: (B, 1, H, W), greater than 0; relative to the image, since its logits have mean 0
            and deviation 1.
    """

    descriptors: Tensor
    scores: Tensor


class PoSFeatNetwork(nn.Module):
    """Describes and detects.

    Args:
        depth: of the backbone's trunk: 18, 34 or 50, the paper's.
    """

    def __init__(self, depth: int = 50) -> None:
        super().__init__()
        self.backbone = ResUNet(depth)
        self.localheader = KeypointDet(DESCRIPTOR_DIM + STEM_CHANNELS)

    def forward(self, image: Tensor) -> Maps:
        """Return the maps of images.

        The detection head gives the backbone no gradient (section 3.3).

        Args:
            image: (B, 3, H, W) RGB in [0, 1]; H and W are multiples of 16.
        """
        image = normalized(image)
        descriptors, stem = self.backbone(image)
        scores = self.localheader(torch.cat([descriptors, stem], dim=1).detach(), image)
        return Maps(descriptors, scores)

    def describe(self, image: Tensor) -> Tensor:
        """Return the descriptors of :class:`Maps` alone, which need no detection.

        Args:
            image: as in :meth:`forward`.
        """
        return self.backbone(normalized(image))[0]


class ResUNet(nn.Module):
    """Describes: a ResNet's first three stages, and two steps up again.

    Args:
        depth: of the trunk.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.trunk = ResNet(depth, (1, 2, 2))
        _, quarter, eighth, sixteenth = self.trunk.channels
        self.upconv3 = UpConv(sixteenth, 512)
        self.iconv3 = Conv(eighth + 512, 512, 3)
        self.upconv2 = UpConv(512, 256)
        self.iconv2 = Conv(quarter + 256, 256, 3)
        self.conv_fine = Conv(256, DESCRIPTOR_DIM, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 128, H/4, W/4) descriptors and the (B, 64, H/4, W/4) map of the stem.

        Args:
            image: (B, 3, H, W), :func:`normalized`; H and W are multiples of 16.
        """
        stem, quarter, eighth, sixteenth = self.trunk(image)
        x = self.iconv3(torch.cat([self.upconv3(sixteenth), eighth], dim=1))
        x = self.iconv2(torch.cat([self.upconv2(x), quarter], dim=1))
        return self.conv_fine(x), stem


class Conv(nn.Module):
    """A convolution, BatchNorm and ELU."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.bn(self.conv(x)), inplace=True)


class UpConv(nn.Module):
    """Twice the size, and a 3 x 3 :class:`Conv`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        # With its corners aligned, as the published network was trained.
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class KeypointDet(nn.Module):
    """Detects: scores of all pixels, of a small map and of the image.

    Args:
        channels: of the small map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.convimg = nn.Conv2d(3, IMAGE_CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(channels + IMAGE_CHANNELS, SCORE_CHANNELS, 3, padding=1)
        self.conv3 = nn.Conv2d(SCORE_CHANNELS, 1, 1)
        # One slope for all channels, and for both places that use it.
        self.prelu = nn.PReLU()

    def forward(self, small: Tensor, image: Tensor) -> Tensor:
        """Return (B, 1, H, W) scores.

        Args:
            small: (B, channels, h, w), of any size.
            image: (B, 3, H, W), :func:`normalized`.
        """
        channels = small.shape[1]
        small = self.prelu(F.instance_norm(self.conv1(small)))
        fine = F.instance_norm(self.convimg(image))
        x = F.conv2d(fine, self.conv2.weight[:, channels:], self.conv2.bias, padding=1)
        x = x + convolve_enlarged(small, self.conv2.weight[:, :channels], image.shape[2:])
        x = self.prelu(F.instance_norm(x))
        return F.softplus(F.instance_norm(self.conv3(x)))


def convolve_enlarged(small: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
    """Return the 3 x 3 convolution of a map that is enlarged bilinearly, without enlarging it.

    A 1 x 1 convolution is linear, and so is enlarging: it can as well be done before. Each of the
    nine taps is therefore multiplied at the size of the small map, and its product is enlarged and
    moved to its place; the sum over rows is formed before columns are enlarged. With a stride of 4
    that is a sixteenth of the multiplications; the result differs by rounding only.

    Args:
        small: (B, C, h, w).
        weight: (D, C, 3, 3).
        size: H and W of the enlarged map.

    Returns:
        (B, D, H, W): ``conv2d(interpolate(small, size, mode="bilinear"), weight, padding=1)``.
    """
    parts = _parts_enlarged(small, weight, size)
    if torch.is_grad_enabled():
        # The gradient of each write to a part of a map would take a copy of the whole map.
        return torch.cat(list(parts), dim=1)
    total = small.new_empty(len(small), len(weight), *size)
    for first, values in zip(range(0, len(weight), AT_ONCE), parts, strict=True):
        total[:, first : first + AT_ONCE] = values
    return total


def _parts_enlarged(small: Tensor, weight: Tensor, size: torch.Size) -> Iterator[Tensor]:
    """Yield :data:`AT_ONCE` channels after the other of :func:`convolve_enlarged`."""
    height, width = size
    channels, columns = small.shape[1], small.shape[3]
    for part in weight.split(AT_ONCE):
        taps = part.permute(2, 3, 0, 1).reshape(-1, channels, 1, 1)
        products = F.conv2d(small, taps).unflatten(1, (3, 3, len(part)))
        for column in (1, 0, 2):
            rows = _enlarge(products[:, 1, column], height, columns)
            for row in (0, 2):
                _add_moved(rows, _enlarge(products[:, row, column], height, columns), 1 - row, 2)
            if column == 1:
                total = _enlarge(rows, height, width)
            else:
                _add_moved(total, _enlarge(rows, height, width), 1 - column, 3)
        yield total


def _enlarge(values: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(values, (height, width), mode="bilinear", align_corners=False)


def _add_moved(total: Tensor, values: Tensor, by: int, dim: int) -> None:
    """Add values moved by 1 or -1 along a dimension; what leaves the map is lost."""
    count = values.shape[dim] - 1
    total.narrow(dim, max(by, 0), count).add_(values.narrow(dim, max(-by, 0), count))


def from_published(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters by the names of :class:`PoSFeatNetwork`.

    Args:
        parameters: by the names of a published checkpoint, with ``backbone.`` or ``localheader.``
            before those of its two files; or by ours, which stay.
    """
    return renamed(parameters, _NAMES)


def depth_of_backbone(parameters: Mapping[str, Tensor]) -> int:
    """Return the depth of the network that has these parameters, by our names.

    Raises:
        KeyError: there is no such network.
    """
    trunk = "backbone.trunk."
    return depth_of((name.removeprefix(trunk) for name in parameters if name.startswith(trunk)), 3)
