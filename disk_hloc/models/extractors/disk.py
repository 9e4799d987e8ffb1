"""DISK's detector and descriptor.

Tyszkiewicz, Fua, Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020,
section 3. The network is in :mod:`disk_hloc.models.disk_network.unet`, the detection in its heatmap
in :mod:`disk_hloc.models.disk_network.keypoints`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from disk_hloc.confs import TRUE_OR_FALSE, Value, number, one_of, whole_number
from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import fitting, load_disk

from ..base import Detections, Extractor
from ..disk_network.keypoints import find_keypoints, refine_keypoints
from ..disk_network.unet import DESCRIPTOR_DIM, STRIDE, Gated, UNet

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class DISK(Extractor):
    """Detects and describes keypoints.

    The conf has hloc's keys:
        weights: ``depth``, ``epipolar``, or the path of a checkpoint.
        max_keypoints: the maximum number of keypoints, the strongest; None keeps all.
        nms_window_size: odd side of the square, in pixels, in which a keypoint's score is
            greater than every other. A window that runs off the image has no keypoint.
        detection_threshold: a keypoint's score is greater.
        subpixel: move each keypoint, by at most half a pixel along each axis, to the peak of a
            quadratic fitted around it; off leaves it at its pixel. Its descriptor is that of its
            pixel.
        precision: ``float32``, ``bfloat16`` or ``float16`` of the convolutions; ``auto`` is
            float16 on CUDA and float32 elsewhere. Heatmap and descriptors are float32 sums.
        pad_if_not_divisible: pad the right and bottom to multiples of 16 with zeros; no keypoint
            lies in the padding.

    Scores are logits of the heatmap, descriptors have 128 dimensions. In float32 and without
    ``subpixel``, keypoints, scores and their order (by row, then column) are those of
    ``kornia.feature.DISK`` (0.9) with the same arguments, up to rounding. Two departures: a
    grayscale image is taken as three equal channels, and an image of at most 16 x 16 pixels, for
    which kornia's network has no instance norm, is padded further.

    Raises:
        DiskHlocError: an unknown key or value in the conf, or weights that are missing or of
            another network; in ``forward``, a side that is not a multiple of 16 while
            ``pad_if_not_divisible`` is off.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "depth",
        "max_keypoints": None,
        "nms_window_size": 5,
        "detection_threshold": 0.0,
        "subpixel": True,
        "precision": "auto",
        "pad_if_not_divisible": True,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "nms_window_size": whole_number(1, odd=True),
        "detection_threshold": number(),
        "subpixel": TRUE_OR_FALSE,
        "precision": one_of(*PRECISIONS),
        "pad_if_not_divisible": TRUE_OR_FALSE,
    }
    describes_pixels: ClassVar[bool] = True
    trainable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        parameters = load_disk(self.conf["weights"])
        with fitting(self.conf["weights"], f"DISK with {DESCRIPTOR_DIM} channels"):
            self.unet = UNet(parameters)
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        height, width = image.shape[-2:]
        # A batch helps a GPU only; elsewhere it would cost memory.
        at_once = len(image) if image.is_cuda else 1
        for part in self._pad(image).split(at_once):
            features = self.unet(part, self._dtype(image.device))
            # Cropped first: the padding neither holds a maximum nor suppresses one.
            heatmaps = self.unet.heatmap(features)[:, :height, :width]
            for i, heatmap in enumerate(heatmaps):
                yield self._detections(features[i], heatmap)

    def _detections(self, features: Gated, heatmap: Tensor) -> Detections:
        xy, scores = find_keypoints(
            heatmap, self.conf["nms_window_size"], self.conf["detection_threshold"]
        )

        def locate(chosen: Tensor) -> Tensor:
            if self.conf["subpixel"]:
                return refine_keypoints(heatmap, xy[chosen])
            return xy[chosen].float()

        return Detections(scores, locate, lambda chosen: self.unet.describe(features, xy[chosen]))

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        features = self.unet(self._pad(image), self._dtype(image.device))
        return self.unet.describe(features[0], xy)

    def _dtype(self, device: torch.device) -> torch.dtype:
        precision = self.conf["precision"]
        if precision == "auto":
            precision = "float16" if device.type == "cuda" else "float32"
        return getattr(torch, precision)

    def _pad(self, image: Tensor) -> Tensor:
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        height, width = image.shape[-2:]
        pad_x, pad_y = -width % STRIDE, -height % STRIDE
        if (pad_x or pad_y) and not self.conf["pad_if_not_divisible"]:
            raise DiskHlocError(
                f"an image of {width}x{height} px has a side that is not a multiple of {STRIDE}: "
                "set pad_if_not_divisible, or resize"
            )
        if height + pad_y == STRIDE and width + pad_x == STRIDE:
            # One value a channel is left at the bottom of the U-Net, and has no variance.
            pad_x += STRIDE
        return F.pad(image, (0, pad_x, 0, pad_y)) if pad_x or pad_y else image
