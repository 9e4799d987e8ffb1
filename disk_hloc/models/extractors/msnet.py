"""MSNetV0's descriptor, at the keypoints of another.

The network and its source are in :mod:`disk_hloc.models.msnet_network`. No weights of it are
published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from disk_hloc.confs import TRUE_OR_FALSE, Value, one_of
from disk_hloc.weights import load_msnet

from ..base import Detections, Extractor
from ..borrowed_keypoints import DETECTORS, detector, keypoints_of
from ..msnet_network import STRIDE, MSNetNetwork, from_published
from ..sampling import sample


class MSNet(Extractor):
    """Describes keypoints of SIFT or DISK.

    The conf:
        weights: the path of a checkpoint, of the published code or of ``disk-hloc train``.
        max_keypoints: the maximum number of keypoints, the best; None keeps all.
        keypoints: ``sift`` or ``disk``, whose keypoints are described. Of several at one place,
            one is kept.
        release: sample the map as the published code does, for weights that it trained: places
            slide away from their cells, by nearly one, 4 pixels, at the right and the bottom.

    Scores are those of the keypoints, descriptors have 128 dimensions.

    Raises:
        DiskHlocError: an unknown key or value in the conf, or weights that are missing or of
            another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "msnet",
        "max_keypoints": None,
        "keypoints": "sift",
        "release": False,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "keypoints": one_of(*DETECTORS),
        "release": TRUE_OR_FALSE,
    }
    images_at_once: ClassVar[dict[str, int]] = {}
    describes_pixels: ClassVar[bool] = True
    trainable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        parameters = load_msnet(self.conf["weights"])
        self.net = MSNetNetwork()
        self.load_parameters(self.net, from_published(parameters), "MSNetV0")
        self.detector = detector(self.conf["keypoints"])
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        for one in image.split(1):
            ((xy, scores),) = keypoints_of(self.detector, one)
            yield self._detections(one, xy, scores)

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        return self._sample(image, self.net(image), xy)

    def _detections(self, image: Tensor, xy: Tensor, scores: Tensor) -> Detections:
        descriptors = self.net(image)
        return Detections.of_one(
            scores,
            lambda chosen: xy[chosen],
            lambda chosen: self._sample(image, descriptors, xy[chosen]),
        )

    def _sample(self, image: Tensor, descriptors: Tensor, xy: Tensor) -> Tensor:
        stride: tuple[float, float] = (STRIDE, STRIDE)
        if self.conf["release"]:
            # The image's borders on the centres of the outermost cells.
            (height, width), (rows, columns) = image.shape[2:], descriptors.shape[2:]
            stride = width / max(columns - 1, 1), height / max(rows - 1, 1)
        return F.normalize(sample(descriptors, xy[None], stride)[0], dim=0)
