"""MSNetV0's network: descriptors of a quarter of the image's size, and no detector.

It is the baseline of github.com/lin-zju/my-descriptor-space (2019): the first two stages of a
ResNet-18, trained on warped photos.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.weights import renamed

from .resnet import ResNet, normalized

DESCRIPTOR_DIM = 128
# Of the map of descriptors, in pixels. Cell (0, 0) is centred on pixel (0, 0).
STRIDE = 4

# Names of a published checkpoint's parameters -> ours.
_NAMES = {
    "desc_extractor.backbone.model.0.": "trunk.conv1.",
    "desc_extractor.backbone.model.1.": "trunk.bn1.",
    "desc_extractor.backbone.model.4.": "trunk.layer1.",
    "desc_extractor.backbone.model.5.": "trunk.layer2.",
    "desc_extractor.regress.": "regress.",
}


class MSNetNetwork(nn.Module):
    """Describes every fourth pixel of every fourth row."""

    def __init__(self) -> None:
        super().__init__()
        # The second stage does not halve its input, unlike ResNet's.
        self.trunk = ResNet(18, (1, 1))
        self.regress = nn.Sequential(
            nn.Conv2d(self.trunk.channels[-1], 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, DESCRIPTOR_DIM, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(DESCRIPTOR_DIM, DESCRIPTOR_DIM, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 128, h, w) descriptors of unit length; h and w are a quarter, rounded up.

        Args:
            image: (B, 3, H, W) RGB or (B, 1, H, W) grayscale in [0, 1].
        """
        return F.normalize(self.regress(self.trunk(normalized(image))[-1]), dim=1)


def from_published(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters by the names of :class:`MSNetNetwork`.

    Args:
        parameters: by the names of a published checkpoint, or by ours, which stay.
    """
    return renamed(parameters, _NAMES)
