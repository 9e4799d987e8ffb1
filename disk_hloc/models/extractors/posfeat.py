"""PoSFeat's detector and descriptor.

Li, Wang, Liu, Ran, Xu, Guo, "Decoupling Makes Weakly Supervised Local Feature Better", CVPR 2022.
The network is in :mod:`disk_hloc.models.posfeat_network`. No weights of it are published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from disk_hloc.confs import TRUE_OR_FALSE, Value, number, one_of, whole_number
from disk_hloc.weights import fitting, load_posfeat

from ..base import Detections, Extractor
from ..borrowed_keypoints import DETECTORS, detector, keypoints_of
from ..disk_network.keypoints import find_keypoints, refine_keypoints
from ..posfeat_keypoints import centroids, find_posfeat_keypoints
from ..posfeat_network import (
    MULTIPLE,
    STRIDE,
    PoSFeatNetwork,
    depth_of_backbone,
    from_published,
)
from ..sampling import sample

OWN = "posfeat"


class PoSFeat(Extractor):
    """Detects and describes keypoints.

    The conf:
        weights: the path of a checkpoint: a folder with ``backbone.pth`` and ``localheader.pth``,
            or a file of ``disk-hloc train``. The depth of the network is that of the checkpoint.
        max_keypoints: the maximum number of keypoints, the best; None keeps all.
        nms_radius: a keypoint is the greatest of a square of ``2 nms_radius + 1`` pixels.
        detection_threshold: a keypoint's score is greater. Scores are relative to the image: of
            0.9, it is 0.38 standard deviations above the mean.
        keypoints: ``posfeat``, or ``sift`` or ``disk``, whose keypoints are described then.
        release: detect and describe as PoSFeat's code, for weights that it trained.

    Without ``release``, keypoints are the strict maxima of their windows, moved to the peak of a
    quadratic; images are padded to multiples of 16 pixels, by their border; and a descriptor is
    sampled at its keypoint. With it, keypoints are the centroids of 3 x 3 scores
    (:mod:`disk_hloc.models.posfeat_keypoints`), images are cropped, at the right and the bottom,
    and a descriptor is that of about 2 pixels to the upper left, as the network was trained. Two
    departures: an image with fewer than 128 keypoints does not get others that are not maxima, and
    one with a side of less than 16 pixels is padded.

    Scores are greater than 0, descriptors have 128 dimensions.

    Raises:
        DiskHlocError: an unknown key or value in the conf, or weights that are missing or of
            another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "posfeat",
        "max_keypoints": None,
        "nms_radius": 3,
        "detection_threshold": 0.9,
        "keypoints": OWN,
        "release": False,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "nms_radius": whole_number(1),
        "detection_threshold": number(0),
        "keypoints": one_of(OWN, *DETECTORS),
        "release": TRUE_OR_FALSE,
    }
    # Its maps are large, and fill a GPU.
    images_at_once: ClassVar[dict[str, int]] = {}
    describes_pixels: ClassVar[bool] = True
    trainable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        parameters = from_published(load_posfeat(self.conf["weights"]))
        with fitting(self.conf["weights"], "PoSFeat"):
            self.net = PoSFeatNetwork(depth_of_backbone(parameters))
        self.load_parameters(self.net, parameters, "PoSFeat")
        chosen = self.conf["keypoints"]
        self.detector = None if chosen == OWN else detector(chosen)
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        for one in image.split(1):
            fitted = self._fit(one)
            if self.detector is not None:
                source = fitted if self.conf["release"] else one
                ((xy, scores),) = keypoints_of(self.detector, source)
                yield self._detections(fitted, self.net.describe(fitted), xy, scores)
                continue
            maps = self.net(fitted)
            xy, scores = self._find(maps.scores[0, 0, : one.shape[2], : one.shape[3]])
            yield self._detections(fitted, maps.descriptors, xy, scores)

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        fitted = self._fit(image)
        return self._sample(fitted, self.net.describe(fitted), xy)

    def _find(self, heatmap: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, 2) float x and y and (N,) scores of one image."""
        radius, threshold = self.conf["nms_radius"], self.conf["detection_threshold"]
        if self.conf["release"]:
            xy, scores = find_posfeat_keypoints(heatmap, radius, threshold)
            return centroids(heatmap, xy), scores
        xy, scores = find_keypoints(heatmap, 2 * radius + 1, threshold)
        return refine_keypoints(heatmap, xy), scores

    def _detections(
        self, image: Tensor, descriptors: Tensor, xy: Tensor, scores: Tensor
    ) -> Detections:
        return Detections.of_one(
            scores,
            lambda chosen: xy[chosen],
            lambda chosen: self._sample(image, descriptors, xy[chosen]),
        )

    def _sample(self, image: Tensor, descriptors: Tensor, xy: Tensor) -> Tensor:
        stride: tuple[float, float] = (STRIDE, STRIDE)
        centre = (0.0, 0.0)
        if self.conf["release"]:
            # Its places are -1 and 1 at the outermost pixels' centres where it makes them, and at
            # their outer borders where it uses them.
            height, width = image.shape[2:]
            stride = STRIDE * (width - 1) / width, STRIDE * (height - 1) / height
            centre = stride[0] / 2, stride[1] / 2
        sampled = sample(descriptors, xy[None], stride, centre)[0]
        return F.normalize(sampled, dim=0)

    def _fit(self, image: Tensor) -> Tensor:
        """Make the sides multiples of 16: cut the rest off as in the release, or pad."""
        height, width = image.shape[2:]
        if self.conf["release"]:
            image = image[..., : _multiple_below(height), : _multiple_below(width)]
            height, width = image.shape[2:]
        return F.pad(image, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")


def _multiple_below(side: int) -> int:
    return max(side // MULTIPLE, 1) * MULTIPLE
