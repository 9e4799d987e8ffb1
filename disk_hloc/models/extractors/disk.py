"""DISK's detector and descriptor.

Tyszkiewicz, Fua, Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020,
section 3. The network is in :mod:`disk_hloc.models.disk_network.unet`, the detection in its heatmap
in :mod:`disk_hloc.models.disk_network.keypoints`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from disk_hloc.confs import TRUE_OR_FALSE, Value, number, one_of, whole_number
from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import fitting, load_disk

from .. import triton_support
from ..base import Detections, Extractor
from ..disk_network.fused import FusedUNet
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
        where = self.conf["nms_window_size"], self.conf["detection_threshold"]
        dtype = self._dtype(image.device)
        if triton_support.supports(image.device):
            network = FusedUNet(self.unet)
            features = network(self._pad(image), dtype)
            heatmaps = network.heatmap(features)[:, :height, :width].contiguous()
            places, scores = network.find_keypoints(heatmaps, *where)
            yield Detections(
                scores,
                partial(self._locate_together, network, heatmaps, places),
                partial(_describe_together, network, features, places),
            )
            return
        # Elsewhere a batch would cost memory, and helps nothing.
        for one in self._pad(image).split(1):
            features = self.unet(one, dtype)
            # Cropped first: the padding neither holds a maximum nor suppresses one.
            heatmap = self.unet.heatmap(features)[0, :height, :width]
            xy, one_scores = find_keypoints(heatmap, *where)
            yield Detections.of_one(
                one_scores,
                partial(self._locate, heatmap, xy),
                partial(_describe, self.unet, features, xy),
            )

    def _locate(self, heatmap: Tensor, xy: Tensor, chosen: Tensor) -> Tensor:
        if self.conf["subpixel"]:
            return refine_keypoints(heatmap, xy[chosen])
        return xy[chosen].float()

    def _locate_together(
        self,
        network: FusedUNet,
        heatmaps: Tensor,
        places: Sequence[Tensor],
        chosen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        joined = _chosen(places, chosen)
        if self.conf["subpixel"]:
            located = network.refine_keypoints(heatmaps, joined)
        else:
            located = joined[:, 1:].flip(1).float()
        return located.split([len(one) for one in chosen])

    def best_of_each(self, scores: Sequence[Tensor]) -> list[Tensor]:
        most = self.conf["max_keypoints"]
        if len(scores) == 1 or most is None or not scores[0].is_cuda:
            return super().best_of_each(scores)
        # Sorted together, which takes a GPU as long as one image.
        padded = pad_sequence(list(scores), batch_first=True, padding_value=-torch.inf)
        order = torch.sort(padded, dim=1, descending=True, stable=True).indices[:, :most]
        kept = order.sort(dim=1).values
        return [
            kept[i] if len(one) > most else torch.arange(len(one), device=one.device)
            for i, one in enumerate(scores)
        ]

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        last = torch.tensor([width - 1, height - 1], device=xy.device)
        xy = xy.round().long().clamp(min=0).minimum(last)
        dtype = self._dtype(image.device)
        if triton_support.supports(image.device):
            network = FusedUNet(self.unet)
            places = F.pad(xy.flip(1), (1, 0))
            return network.describe(network(self._pad(image), dtype), places)
        return self.unet.describe(self.unet(self._pad(image), dtype)[0], xy)

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


def _describe(unet: UNet, features: Gated, xy: Tensor, chosen: Tensor) -> Tensor:
    return unet.describe(features, xy[chosen])


def _describe_together(
    network: FusedUNet,
    features: Gated,
    places: Sequence[Tensor],
    chosen: Sequence[Tensor],
) -> Sequence[Tensor]:
    described = network.describe(features, _chosen(places, chosen))
    return described.split([len(one) for one in chosen], dim=1)


def _chosen(places: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor:
    return torch.cat([of_image[indices] for of_image, indices in zip(places, chosen, strict=True)])
