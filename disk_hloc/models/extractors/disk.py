"""DISK's detector and descriptor.

Tyszkiewicz, Fua, Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020,
section 3. The network is in :mod:`.unet`, what becomes of its heatmap in :mod:`.peaks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.disk_network.keypoints import find_keypoints, refine_keypoints
from disk_hloc.models.disk_network.unet import DESCRIPTOR_DIM, STRIDE, UNet
from disk_hloc.weights import load_disk

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class DISK(nn.Module):
    """Detects and describes keypoints.

    The conf has hloc's keys:
        weights: ``depth``, ``epipolar``, or the path of a checkpoint.
        max_keypoints: the strongest so many maxima are kept; None keeps all.
        nms_window_size: odd side of the square, in pixels, in which a keypoint's score is
            greater than every other. A window that runs off the image has no keypoint.
        detection_threshold: a keypoint's score lies above it.
        subpixel: move each keypoint, by at most half a pixel along each axis, to the peak of a
            quadratic fitted around it; off leaves it at its pixel. Its descriptor is that of its
            pixel.
        precision: ``float32``, ``bfloat16`` or ``float16`` of the convolutions; ``auto`` is
            float16 on CUDA and float32 elsewhere. Heatmap and descriptors are float32 sums.
        pad_if_not_divisible: pad the right and bottom to multiples of 16 with zeros; no keypoint
            lies in the padding.

    In float32 and without ``subpixel``, keypoints, scores and their order (by row, then column) are
    those of ``kornia.feature.DISK`` (0.9) with the same arguments, up to rounding. Where the two
    part: a grayscale image is taken as three equal channels, and an image of at most 16 x 16
    pixels, for which kornia's network has no instance norm, is padded further.

    Raises:
        DiskHlocError: the weights are missing or of another network.
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
    required_data_keys: ClassVar[list[str]] = ["image"]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        window = self.conf["nms_window_size"]
        if window < 1 or window % 2 == 0:
            raise DiskHlocError(f"nms_window_size is {window}, but must be odd and positive")
        if self.conf["precision"] not in PRECISIONS:
            raise DiskHlocError(
                f"precision is {self.conf['precision']!r}, but must be one of "
                f"{', '.join(PRECISIONS)}"
            )
        parameters = load_disk(self.conf["weights"])
        try:
            self.unet = UNet(parameters)
        except (KeyError, RuntimeError) as error:
            raise DiskHlocError(
                f"weights {str(self.conf['weights'])!r} are of another network than DISK with "
                f"{DESCRIPTOR_DIM} channels: {' '.join(str(error).split())[:200]}"
            ) from error
        self.eval()

    def forward(self, data: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """Keypoints of a batch of images.

        Args:
            data: ``image``, (B, 3, H, W) RGB or (B, 1, H, W) grayscale float in [0, 1];
                optionally ``keep``, a function for each image that says of (N, 2) float32
                keypoints, (N,) bool, which are kept. A masked maximum still suppresses its
                neighbours, as it would without a mask.

        Returns:
            For each of B images
            ``keypoints`` (N, 2) float32, x and y in pixels, (0, 0) at the centre of the top-left
            pixel; ``keypoint_scores`` (N,) float32 logits of the heatmap; ``descriptors``
            (128, N) float32 of unit length.

        Raises:
            DiskHlocError: a side is no multiple of 16 and ``pad_if_not_divisible`` is off.
        """
        image = data["image"]
        height, width = image.shape[-2:]
        prediction: dict[str, list[Tensor]] = {
            "keypoints": [],
            "keypoint_scores": [],
            "descriptors": [],
        }
        keep = data.get("keep")
        # A batch is of use to a GPU only; elsewhere it would cost memory.
        at_once = len(image) if image.is_cuda else 1
        padded = self._pad(image)
        for first in range(0, len(image), at_once):
            features = self.unet(padded[first : first + at_once], self._dtype(image.device))
            # Cropped first: the padding neither holds a maximum nor outshines one.
            heatmaps = self.unet.heatmap(features)[:, :height, :width]
            for i, heatmap in enumerate(heatmaps):
                judge = None if keep is None else keep[first + i]
                xy, scores = find_keypoints(
                    heatmap,
                    max_keypoints=self.conf["max_keypoints"],
                    window_size=self.conf["nms_window_size"],
                    threshold=self.conf["detection_threshold"],
                    keep=None if judge is None else self._judged_in_place(judge, heatmap),
                )
                prediction["keypoints"].append(self._place(heatmap, xy))
                prediction["keypoint_scores"].append(scores)
                prediction["descriptors"].append(self.unet.describe(features[i], xy))
        return prediction

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        """Descriptors of one image at given pixels, be they keypoints or not.

        Args:
            image: (1, 3, H, W) RGB or (1, 1, H, W) grayscale float in [0, 1].
            xy: (N, 2) int64 x and y in pixels.

        Returns:
            (128, N) float32 of unit length.
        """
        features = self.unet(self._pad(image), self._dtype(image.device))
        return self.unet.describe(features[0], xy)

    def _place(self, heatmap: Tensor, xy: Tensor) -> Tensor:
        return refine_keypoints(heatmap, xy) if self.conf["subpixel"] else xy.float()

    def _judged_in_place(
        self, judge: Callable[[Tensor], Tensor], heatmap: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """Judge maxima where they will be written, which may be another pixel of the photo."""
        return lambda xy: judge(self._place(heatmap, xy))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.unet.get_buffer("bias").device

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
                f"an image of {width}x{height} px has a side that is no multiple of {STRIDE}: "
                "set pad_if_not_divisible, or resize"
            )
        if height + pad_y == STRIDE and width + pad_x == STRIDE:
            # One value a channel is left at the bottom of the U-Net, and has no variance.
            pad_x += STRIDE
        return F.pad(image, (0, pad_x, 0, pad_y)) if pad_x or pad_y else image
