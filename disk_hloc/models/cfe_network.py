"""CFE's network: descriptors and attention of three levels of a ResNet-50.

Lindenberger, Valentin, Frey, Wiethüchter, "Using Multi-Level Convolutional Information for Scale-
and Viewpoint-Robust Local Features" (github.com/RomeoV/deep-local-features), report, 2021. The
attention is like that of DELF (Noh, Araujo, Sim, Weyand, Han, ICCV 2017), one for each level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import ResNet, depth_of, normalized

LEVELS = ("early", "middle", "deep")
DESCRIPTOR_DIM = 64
ATTENTION_CHANNELS = 512
# The stages of the trunk that are used, and by how much each is enlarged.
STAGES = (2, 3, 4)
ENLARGED = (1, 2, 4)


class Level(NamedTuple):
    """What the network makes of images at one level.

    Attributes:
        descriptors: (B, 64, h, w), not normalised.
        scores: (B, 1, h, w), greater than 0.
        stride: distance of the centres of neighbouring cells along x and y, in pixels.
        centre: the pixel on which the top-left cell is centred, along both axes.
    """

    descriptors: Tensor
    scores: Tensor
    stride: tuple[float, float]
    centre: float


class CFENetwork(nn.Module):
    """Describes and detects at three levels.

    Args:
        stem_stride: of the first convolution: 2, as it is trained; or 1, as it is used, where that
            convolution is dilated by 2, and maps have twice the size.
        stem_padding: of a dilated first convolution, in pixels; 6 keeps the size of the image. The
            published code has 3, with which cells are centred 3 pixels further.
        bounded: map scores ``s`` to ``s / (1 + s)``, which is less than 1.
        levels_of_gray: take images as they are, from 0 to 255, instead of normalising them.
        depth: of the trunk: 18, 34 or 50, the report's.
    """

    def __init__(
        self,
        stem_stride: int = 2,
        *,
        stem_padding: int | None = None,
        bounded: bool = False,
        levels_of_gray: bool = False,
        depth: int = 50,
    ) -> None:
        super().__init__()
        dilation = 1 if stem_stride == 2 else 2
        whole = 3 * dilation
        padding = whole if stem_padding is None else stem_padding
        self.bounded = bounded
        self.levels_of_gray = levels_of_gray
        self.centre = float(whole - padding)
        # Of the second stage of the trunk: the stem, its max-pooling and that stage.
        self.stride = 4 * stem_stride
        self.feature_encoder = FeatureEncoder(depth, stem_stride, dilation, padding)
        self.early_attentions = attention()
        self.middle_attentions = attention()
        self.deep_attentions = attention()

    def forward(self, image: Tensor) -> list[Level]:
        """Return the three levels of images.

        Args:
            image: (B, 3, H, W) RGB or (B, 1, H, W) grayscale in [0, 1].
        """
        return self.levels(self.feature_encoder(self.prepared(image)))

    def prepared(self, image: Tensor) -> Tensor:
        """Return an image as the trunk takes it.

        Args:
            image: as in :meth:`forward`.
        """
        return image.expand(-1, 3, -1, -1) * 255 if self.levels_of_gray else normalized(image)

    def levels(self, encoded: Sequence[Tensor]) -> list[Level]:
        """Return the three levels of (B, 64, h, w) codes, as :class:`FeatureEncoder` makes them."""
        return [
            self._level(name, codes, enlarged)
            for name, codes, enlarged in zip(LEVELS, encoded, ENLARGED, strict=True)
        ]

    def _level(self, name: str, codes: Tensor, enlarged: int) -> Level:
        rows, columns = (side // enlarged for side in codes.shape[2:])
        stride = self.stride * enlarged
        along = [stride * spacing(cells, enlarged) for cells in (columns, rows)]
        return Level(codes, self.attend(name, codes), (along[0], along[1]), self.centre)

    def attend(self, name: str, codes: Tensor) -> Tensor:
        """Return (B, 1, h, w) scores of one of :data:`LEVELS`.

        Args:
            name: of the level.
            codes: (B, 64, h, w), its descriptors.
        """
        scores = F.softplus(self.get_submodule(f"{name}_attentions")(codes))
        return scores / (1 + scores) if self.bounded else scores


class FeatureEncoder(nn.Module):
    """An autoencoder of three stages of a ResNet. Its parts have the published names.

    Args:
        depth: of the ResNet.
        stem_stride: of its first convolution, as its dilation and its padding in pixels.
    """

    def __init__(self, depth: int, stem_stride: int, stem_dilation: int, stem_padding: int) -> None:
        super().__init__()
        self.resnet = ResNet(
            depth, stem_stride=stem_stride, stem_dilation=stem_dilation, stem_padding=stem_padding
        )
        channels = [self.resnet.channels[stage] for stage in STAGES]
        for i, count in enumerate(channels, start=1):
            self.add_module(f"e{i}", nn.Sequential(nn.Conv2d(count, DESCRIPTOR_DIM, 1)))
            self.add_module(f"d{i}", nn.Sequential(nn.ConvTranspose2d(DESCRIPTOR_DIM, count, 1)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return (B, 64, h, w) codes of the three levels.

        The middle and the deep level are enlarged to twice and four times their size. The published
        code enlarges before it encodes; encoding is linear and of single cells, so that the result
        is the same.

        Args:
            image: (B, 3, H, W).
        """
        return [
            enlarge(codes, factor)
            for codes, factor in zip(self.encode(self.activations(image)), ENLARGED, strict=True)
        ]

    def activations(self, image: Tensor) -> list[Tensor]:
        """Return the outputs of the trunk's stages, (B, channels, h, w), without enlarging them.

        Args:
            image: (B, 3, H, W).
        """
        maps = self.resnet(image)
        return [maps[stage] for stage in STAGES]

    def encode(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Return (B, 64, h, w) codes of activations."""
        return [self.get_submodule(f"e{i}")(x) for i, x in enumerate(activations, start=1)]

    def decode(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Return activations of codes, which are at least 0."""
        return [self.get_submodule(f"d{i}")(x).relu() for i, x in enumerate(codes, start=1)]


def enlarge(values: Tensor, factor: int) -> Tensor:
    """Enlarge a map bilinearly, with its corners aligned."""
    if factor == 1:
        return values
    return F.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=True)


def spacing(cells: int, factor: int) -> float:
    """Return the distance of neighbouring cells of an enlarged map, in cells of the small one.

    With aligned corners, the enlarged map's outermost cells are where the small one's are.

    Args:
        cells: of a row or column of the small map.
        factor: of :func:`enlarge`.
    """
    return (cells - 1) / (cells * factor - 1) if cells * factor > 1 else 1.0


def attention() -> nn.Sequential:
    """Return the layers that make a level's scores, but for their softplus."""
    return nn.Sequential(
        nn.Conv2d(DESCRIPTOR_DIM, ATTENTION_CHANNELS, 1),
        nn.BatchNorm2d(ATTENTION_CHANNELS),
        nn.ReLU(inplace=True),
        nn.Conv2d(ATTENTION_CHANNELS, 1, 1),
    )


def depth_of_trunk(names: Iterable[str]) -> int:
    """Return the depth of the network that has parameters of these names.

    Raises:
        KeyError: there is no such network.
    """
    trunk = "feature_encoder.resnet."
    return depth_of((name.removeprefix(trunk) for name in names if name.startswith(trunk)), 4)
