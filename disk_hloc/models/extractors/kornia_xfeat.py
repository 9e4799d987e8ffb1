"""XFeat, to compare DISK with, and for those in a hurry.

Potje, Cadar, Araujo, Martins, Nascimento, "XFeat: Accelerated Features for Lightweight Image
Matching", CVPR 2024. The network is kornia's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from disk_hloc.confs import Value, number
from disk_hloc.weights import load_network

from ..base import Detections, Extractor, kornia_class
from ..disk_network.keypoints import find_keypoints

# Sides of images are multiples of it, in pixels.
STRIDE = 32
# The network has a logit for each pixel of a square cell of this side, and one for no keypoint.
CELL = 8
WINDOW_SIZE = 5


class XFeat(Extractor):
    """Detects and describes keypoints with XFeat (its sparse features).

    The conf:
        weights: ``xfeat``, or the path of a checkpoint.
        max_keypoints: the maximum number of keypoints, the best; None keeps all.
        detection_threshold: the probability that a pixel is its cell's keypoint, 0 to 1, is
            greater.

    Scores are in [0, 1], the product of that probability and of the reliability of the descriptor.
    Descriptors have 64 dimensions. Keypoints, scores and descriptors are those of
    ``kornia.feature.XFeat`` (0.9), in another order and with one departure: an image whose sides
    are not multiples of 32 is resized for the network, and its keypoints are scaled back so that
    the centres of pixels correspond; kornia's lie ``(scale - 1) / 2`` pixels beside that.

    Raises:
        DiskHlocError: an unknown key in the conf, weights that are missing or of another network,
            or a kornia that has no XFeat.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "xfeat",
        "max_keypoints": None,
        "detection_threshold": 0.05,
    }
    conf_values: ClassVar[dict[str, Value]] = {"detection_threshold": number()}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.net = kornia_class("XFeatModel")()
        self.sample = kornia_class("InterpolateSparse2d")("bicubic")
        self.sample_reliability = kornia_class("InterpolateSparse2d")("bilinear")
        parameters = load_network(self.conf["weights"], "XFeat", "keypoint_head.3.weight")
        self.load_parameters(self.net, parameters, "XFeat")
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        height, width = image.shape[-2:]
        size = [max(STRIDE, side // STRIDE * STRIDE) for side in (height, width)]
        if size != [height, width]:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        scale = image.new_tensor([width / size[1], height / size[0]])
        features, logits, reliability = self.net(image)
        features = F.normalize(features, dim=1)
        heatmaps = F.pixel_shuffle(logits.softmax(dim=1)[:, : CELL**2], CELL)[:, 0]
        for i, heatmap in enumerate(heatmaps):
            one = slice(i, i + 1)
            yield self._detections(heatmap, features[one], reliability[one], scale)

    def _detections(
        self, heatmap: Tensor, features: Tensor, reliability: Tensor, scale: Tensor
    ) -> Detections:
        height, width = heatmap.shape
        xy, probabilities = find_keypoints(heatmap, WINDOW_SIZE, self.conf["detection_threshold"])
        reliable = self.sample_reliability(reliability, xy[None], height, width)[0, :, 0]

        def locate(chosen: Tensor) -> Tensor:
            return (xy[chosen] + 0.5) * scale - 0.5

        def describe(chosen: Tensor) -> Tensor:
            sampled = self.sample(features, xy[None, chosen], height, width)[0]
            return F.normalize(sampled, dim=1).T.contiguous()

        return Detections.of_one(probabilities * reliable, locate, describe)
