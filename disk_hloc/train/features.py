"""The features of images in training, at keypoints and in dense maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

# Finds the keypoints of a heatmap: (H, W) -> (N, 2) int64 x and y, and their (N,) log-probabilities
# or scores.
Detector = Callable[[Tensor], tuple[Tensor, Tensor]]


class Level(NamedTuple):
    """A dense map of descriptors of one image.

    Attributes:
        descriptors: (D, h, w), of any length.
        cell: width and height of a cell in pixels of the image.
        first: x and y of the centre of the first cell in pixels; (0, 0) is the centre of the
            image's top-left pixel.
        scores: (h, w) attention of the cells; None if the network has no attention.
        error: () of a network's own, such as an autoencoder's, which objectives of descriptors
            add to their loss; None for a network without one.
    """

    descriptors: Tensor
    cell: tuple[float, float]
    first: tuple[float, float]
    scores: Tensor | None = None
    error: Tensor | None = None


class Features(NamedTuple):
    """The features of one image.

    Attributes:
        xy: (N, 2) int64 x and y in pixels, (0, 0) at the centre of the top-left pixel.
        score: (N,) log-probability of sampling each keypoint, or its logit.
        descriptors: (N, D) of unit length.
        levels: dense maps, where no keypoints were asked for.
    """

    xy: Tensor
    score: Tensor
    descriptors: Tensor
    levels: tuple[Level, ...] = ()

    def detached(self) -> Features:
        """Return a copy detached from the network, whose tensors accumulate gradients.

        What the network does not need the gradient of, since it is frozen, does not accumulate any.
        """
        return Features(
            self.xy,
            self.score.detach().requires_grad_(self.score.requires_grad),
            self.descriptors.detach().requires_grad_(self.descriptors.requires_grad),
        )


def split(features: Sequence[Features], per_tuple: int) -> list[list[Features]]:
    """Split the features of a batch's images into tuples."""
    return [list(features[i : i + per_tuple]) for i in range(0, len(features), per_tuple)]
