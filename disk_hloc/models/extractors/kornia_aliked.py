"""ALIKED, to compare DISK with.

Zhao, Wu, Chen, Chen, Xu, Li, "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via
Deformable Transformation", IEEE Transactions on Instrumentation and Measurement, 2023. The network
is kornia's, whose deformable convolution does not need torchvision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from disk_hloc.confs import Value, number, whole_number
from disk_hloc.weights import load_network

from ..base import Detections, Extractor, kornia_class

NETWORK = "aliked-n16"


class ALIKED(Extractor):
    """Detects and describes keypoints with ALIKED(16), the network that LightGlue was trained on.

    The conf:
        weights: ``aliked-n16``, or the path of a checkpoint of that network.
        max_keypoints: the maximum number of keypoints, the best; None keeps all.
        detection_threshold: a keypoint's score, 0 to 1, is greater; in an image without any, a
            keypoint's score is greater than the mean.
        nms_radius: a keypoint is the greatest of a square of ``2 nms_radius + 1`` pixels.

    Scores are in [0, 1], descriptors have 128 dimensions.

    Raises:
        DiskHlocError: an unknown key in the conf, weights that are missing or of another network,
            or a kornia that has no ALIKED.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": NETWORK,
        "max_keypoints": None,
        "detection_threshold": 0.2,
        "nms_radius": 2,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "detection_threshold": number(),
        "nms_radius": whole_number(1),
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.net = kornia_class("ALIKED")(
            NETWORK,
            detection_threshold=self.conf["detection_threshold"],
            nms_radius=self.conf["nms_radius"],
        )
        parameters = load_network(self.conf["weights"], "ALIKED", "score_head.0.weight")
        # The grid is a table of pixel offsets, not a parameter.
        self.load_parameters(self.net, parameters, NETWORK, derived=["dkd.hw_grid"])
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        features, score_map = self.net.extract_dense_map(image)
        for i in range(len(image)):
            yield self._detections(features[i : i + 1], score_map[i : i + 1])

    def _detections(self, features: Tensor, score_map: Tensor) -> Detections:
        # kornia's places are -1 and 1 at the centres of the outermost pixels.
        places, scores, *_ = (values[0] for values in self.net.dkd(score_map))
        height, width = score_map.shape[-2:]
        keypoints = (places + 1) / 2 * places.new_tensor([width - 1, height - 1])

        def describe(chosen: Tensor) -> Tensor:
            if len(chosen) == 0:
                return features.new_zeros(features.shape[1], 0)
            descriptors, _ = self.net.desc_head(features, [places[chosen]])
            return descriptors[0].T.contiguous()

        return Detections.of_one(scores, lambda chosen: keypoints[chosen], describe)

    def best(self, scores: Tensor, max_keypoints: int | None) -> Tensor:
        """Return the indices of the highest scores, in their order where some are dropped."""
        if max_keypoints is None or len(scores) <= max_keypoints:
            return torch.arange(len(scores), device=scores.device)
        return scores.topk(max_keypoints).indices
