"""A ResNet trunk, the backbone of PoSFeat, MSNet and CFE.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. As in torchvision,
the stride of a bottleneck is in its 3 x 3 convolution. Parameters have torchvision's names, so that
its ImageNet files fit; torchvision itself is not needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from disk_hloc.weights import fitting, load_network

# Depth -> blocks of each stage.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# Channels of the blocks of each stage; a bottleneck's output has four times as many.
WIDTHS = (64, 128, 256, 512)
BOTTLENECKS_FROM = 50
STEM_CHANNELS = 64
# Mean and standard deviation of ImageNet's red, green and blue, for images in [0, 1].
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y))
        return (y + self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y)).relu_()
        y = self.bn3(self.conv3(y))
        return (y + self.downsample(x)).relu_()


class ResNet(nn.Module):
    """The convolutional part of a ResNet.

    Args:
        depth: 18, 34 or 50.
        strides: of each stage, as many as stages are made.
        stem_stride: of the first convolution. Its max-pooling halves again.
        stem_dilation: of the first convolution, 7 x 7.
        stem_padding: of the first convolution, in pixels.

    Attributes:
        depth: as given.
        channels: of each of the maps that ``forward`` returns.
    """

    def __init__(
        self,
        depth: int = 50,
        strides: Sequence[int] = (1, 2, 2, 2),
        *,
        stem_stride: int = 2,
        stem_dilation: int = 1,
        stem_padding: int = 3,
    ) -> None:
        super().__init__()
        self.depth = depth
        block = Bottleneck if depth >= BOTTLENECKS_FROM else BasicBlock
        self.conv1 = nn.Conv2d(
            3, STEM_CHANNELS, 7, stem_stride, stem_padding, stem_dilation, bias=False
        )
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [STEM_CHANNELS]
        self.stages = [f"layer{i}" for i in range(1, len(strides) + 1)]
        for stage, stride, width, count in zip(
            self.stages, strides, WIDTHS, BLOCKS[depth], strict=False
        ):
            blocks = []
            for i in range(count):
                inputs = self.channels[-1] if i == 0 else width * block.expansion
                blocks.append(block(inputs, width, stride if i == 0 else 1))
            self.add_module(stage, nn.Sequential(*blocks))
            self.channels.append(width * block.expansion)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps after max-pooling and after each stage.

        Args:
            image: (B, 3, H, W), as the weights expect it (:func:`normalized`).
        """
        maps = [self.maxpool(self.bn1(self.conv1(image)).relu_())]
        for stage in self.stages:
            maps.append(self.get_submodule(stage)(maps[-1]))
        return maps


def normalized(image: Tensor) -> Tensor:
    """Return an image with the mean and deviation of ImageNet's.

    Args:
        image: (B, 3, H, W) RGB or (B, 1, H, W) grayscale in [0, 1]; gray is taken as three equal
            channels.

    Returns:
        (B, 3, H, W).
    """
    mean, deviation = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (image - mean) / deviation


def load_imagenet(trunk: ResNet, weights: str | os.PathLike[str]) -> None:
    """Load a file of torchvision's ImageNet weights, such as ``resnet50-0676ba61.pth``.

    Its classifier, and stages that the trunk does not have, are ignored.

    Args:
        trunk: gets the parameters.
        weights: the path of the file.

    Raises:
        DiskHlocError: the file does not exist, or is of another network or depth.
    """
    parameters = load_network(weights, "a ResNet", "layer1.0.conv1.weight")
    with fitting(weights, f"ResNet-{trunk.depth}"):
        if depth_of(parameters, len(WIDTHS)) != trunk.depth:
            raise KeyError("it has another depth")
        missing, _ = trunk.load_state_dict(parameters, strict=False)
        if missing:
            raise KeyError(f"missing {missing[0]}")


def depth_of(names: Iterable[str], stages: int) -> int:
    """Return the depth of the ResNet that has parameters of these names.

    Args:
        names: torchvision's, such as ``layer1.0.conv1.weight``.
        stages: how many stages the network has.

    Raises:
        KeyError: none of :data:`BLOCKS` has such blocks.
    """
    listed = list(names)
    blocks = [
        len({found[1] for name in listed if (found := re.match(rf"layer{i}\.(\d+)\.", name))})
        for i in range(1, stages + 1)
    ]
    bottlenecks = any(re.match(r"layer1\.0\.conv3\.", name) for name in listed)
    for depth, expected in BLOCKS.items():
        if list(expected[:stages]) == blocks and bottlenecks == (depth >= BOTTLENECKS_FROM):
            return depth
    raise KeyError(f"a ResNet with stages of {blocks} blocks has none of the depths {[*BLOCKS]}")


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
