"""What training asks of a network, whichever feature it computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from kornia.feature import gftt_response
from torch import Tensor, nn

from .dense import describe
from .features import Detector, Features, Level


class Trainable(nn.Module, ABC):
    """A network that can be trained.

    Attributes:
        stride: the sides of images are multiples of it, in pixels.
        checkpoint_names: keys under which a checkpoint holds the parameters.
        default_conf: the keys of the conf's ``model`` that this network has, besides those of all
            (``name``, ``weights``, ``trained`` and ``cell_size``). They and ``weights`` are its
            arguments. ``imagenet`` is a file of initial weights, like ``weights``.
    """

    stride: ClassVar[int]
    checkpoint_names: ClassVar[tuple[str, ...]] = ("extractor",)
    default_conf: ClassVar[Mapping[str, Any]] = {}

    def forward(self, images: Tensor, detect: Detector | None) -> list[Features]:
        """Compute the features of a batch of images.

        Everything that is trained goes through here: several devices average the gradients of this
        method alone.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W are multiples of the stride.
            detect: function that finds the keypoints of each heatmap; None finds none, and the
                features have ``levels`` instead.
        """
        if detect is not None:
            return self.features(images, detect)
        return [
            Features(
                images.new_zeros((0, 2)).long(),
                images.new_zeros(0),
                images.new_zeros((0, len(levels[0].descriptors))),
                levels,
            )
            for levels in self.maps(images)
        ]

    def features(self, images: Tensor, detect: Detector) -> list[Features]:
        """Detect and describe the keypoints of (B, 3, H, W) images.

        Descriptors are those of the first dense map.
        """
        found = []
        for heatmap, levels in zip(*self.heatmaps_and_maps(images), strict=True):
            xy, score = detect(heatmap)
            found.append(Features(xy, score, describe(levels[0], xy.to(heatmap.dtype))))
        return found

    def heatmaps_and_maps(self, images: Tensor) -> tuple[Tensor, list[tuple[Level, ...]]]:
        """Compute both of (B, 3, H, W) images; of the maps, the first of each image is enough.

        A network whose heatmaps and maps share computations has a method of its own.
        """
        return self.heatmaps(images), self.maps(images)

    def heatmaps(self, images: Tensor) -> Tensor:
        """Compute (B, H, W) logits of (B, 3, H, W) images.

        Those of a network without a detector are the corners of the photos, by the smaller
        eigenvalue of the structure tensor (Shi, Tomasi, "Good features to track", CVPR 1994).
        """
        return gftt_response(images.mean(dim=1, keepdim=True))[:, 0]

    @abstractmethod
    def maps(self, images: Tensor) -> list[tuple[Level, ...]]:
        """Compute the dense maps of (B, 3, H, W) images."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Return the parts that can be trained on their own; together they have all parameters."""

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the parameters as a checkpoint has them, by the names that the extractor reads."""
        return self.state_dict()
