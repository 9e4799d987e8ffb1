"""DISK's detector and descriptor, with descriptors computed at the keypoints alone.

Tyszkiewicz, Fua, Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020,
section 3; the architecture is kornia's. The last convolution of the U-Net makes 128 descriptor
channels and one heatmap channel for every pixel and is four fifths of the arithmetic. Here it
makes the heatmap everywhere and descriptors only where a keypoint is, which is the same sum of
products and needs no (128, H, W) map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DiskHlocError
from ..weights import load_disk

DESCRIPTOR_DIM = 128
# The U-Net halves its input four times.
STRIDE = 16
DESCRIBED_AT_ONCE = 512


class DISK(nn.Module):
    """Detects and describes keypoints.

    The conf has hloc's keys:
        weights: ``depth``, ``epipolar``, or the path of a checkpoint.
        max_keypoints: the strongest so many maxima are kept; None keeps all.
        nms_window_size: odd side of the square, in pixels, in which a keypoint's score is
            greater than every other. A window that runs off the image has no keypoint.
        detection_threshold: a keypoint's score lies above it.
        pad_if_not_divisible: pad the right and bottom to multiples of 16 with zeros; no keypoint
            lies in the padding.

    Keypoints, scores and their order (by row, then column) are those of ``kornia.feature.DISK``
    (0.9) with the same arguments. Where the two part: a grayscale image is taken as three equal
    channels, and an image of at most 16 x 16 pixels, for which kornia's network has no instance
    norm, is padded further.

    Raises:
        DiskHlocError: the weights are missing or of another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "depth",
        "max_keypoints": None,
        "nms_window_size": 5,
        "detection_threshold": 0.0,
        "pad_if_not_divisible": True,
    }
    required_data_keys: ClassVar[list[str]] = ["image"]
    unet: Any

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        window = self.conf["nms_window_size"]
        if window < 1 or window % 2 == 0:
            raise DiskHlocError(f"nms_window_size is {window}, but must be odd and positive")
        self.unet = kornia.feature.DISK(desc_dim=DESCRIPTOR_DIM).unet
        parameters = load_disk(self.conf["weights"])
        try:
            self.load_state_dict(parameters)
        except RuntimeError as error:
            raise DiskHlocError(
                f"weights {str(self.conf['weights'])!r} are of another network than DISK with "
                f"{DESCRIPTOR_DIM} channels: {' '.join(str(error).split())[:200]}"
            ) from error
        self.eval()

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Keypoints of a batch of images.

        Args:
            data: ``image``, (B, 3, H, W) RGB or (B, 1, H, W) grayscale float in [0, 1];
                optionally ``keep``, (B, H, W) bool, True where keypoints may be. A masked maximum
                still suppresses its neighbours, as it would without a mask.

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
        features, heatmaps = self._features_and_heatmap(self._pad(image))
        prediction: dict[str, list[Tensor]] = {
            "keypoints": [],
            "keypoint_scores": [],
            "descriptors": [],
        }
        keep = data.get("keep")
        for i, (feature, heatmap) in enumerate(zip(features, heatmaps, strict=True)):
            # Cropped first: the padding neither holds a maximum nor outshines one.
            xy, scores = find_keypoints(
                heatmap[0, :height, :width],
                max_keypoints=self.conf["max_keypoints"],
                window_size=self.conf["nms_window_size"],
                threshold=self.conf["detection_threshold"],
                keep=None if keep is None else keep[i],
            )
            prediction["keypoints"].append(xy.float())
            prediction["keypoint_scores"].append(scores)
            prediction["descriptors"].append(self._describe(feature, xy))
        return prediction

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

    def _features_and_heatmap(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), the input of the U-Net's last convolution, and the (B, 1, H, W) heatmap."""
        skipped = [image]
        for block in self.unet.path_down:
            skipped.append(block(skipped[-1]))
        bottom = skipped.pop()
        *blocks, last = self.unet.path_up
        for block in blocks:
            bottom = block(bottom, skipped.pop())
        features = torch.cat([last.upsample(bottom), skipped.pop()], dim=1)
        *norm_and_gate, convolution = last.conv
        for layer in norm_and_gate:
            features = layer(features)
        heatmap = F.conv2d(
            features,
            convolution.weight[DESCRIPTOR_DIM:],
            convolution.bias[DESCRIPTOR_DIM:],
            padding="same",
        )
        return features, heatmap

    def _describe(self, features: Tensor, xy: Tensor) -> Tensor:
        """(128, N) descriptors at integer pixels ``xy`` (N, 2) of ``features`` (C, H, W)."""
        # In blocks of one size: a matrix product may sum in another order for another size, and a
        # keypoint's descriptor is not to depend, in its last bit, on how many others there are.
        count = len(xy)
        blocks = F.pad(xy, (0, 0, 0, -count % DESCRIBED_AT_ONCE)).split(DESCRIBED_AT_ONCE)
        described = [self._describe_block(features, block) for block in blocks]
        return F.normalize(torch.cat(described, dim=1)[:, :count], dim=0)

    def _describe_block(self, features: Tensor, xy: Tensor) -> Tensor:
        convolution = self.unet.path_up[-1].conv[-1]
        weight = convolution.weight[:DESCRIPTOR_DIM]
        size = weight.shape[-1]
        channels, height, width = features.shape
        flat = features.reshape(channels, height * width)
        descriptors: Tensor = convolution.bias[:DESCRIPTOR_DIM, None].repeat(1, len(xy))
        for row in range(size):
            for column in range(size):
                x = xy[:, 0] + (column - size // 2)
                y = xy[:, 1] + (row - size // 2)
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
                descriptors += weight[:, :, row, column] @ (flat[:, index] * inside)
        return descriptors


def find_keypoints(
    heatmap: Tensor,
    max_keypoints: int | None = None,
    window_size: int = 5,
    threshold: float = 0.0,
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The strict local maxima of a heatmap, by row, then column.

    A maximum is greater than every other value in its full window (as kornia 0.9's ``nms2d``;
    DISK's release differs at borders and ties), and greater than ``threshold``.

    Args:
        heatmap: (H, W) float.
        max_keypoints: the greatest so many are kept; of those that tie for the last place, the
            first by row and column. None keeps all.
        window_size: odd side of the window in pixels.
        threshold: in the heatmap's units.
        keep: (H, W) bool; maxima elsewhere are dropped before the greatest are chosen.

    Returns:
        (N, 2) int64 x and y in pixels; (N,) scores.
    """
    height, width = heatmap.shape
    radius = window_size // 2
    if min(height, width) < window_size:
        return heatmap.new_zeros((0, 2), dtype=torch.int64), heatmap.new_zeros(0)
    inner = heatmap[radius : height - radius, radius : width - radius]
    greatest = F.max_pool2d(heatmap[None, None], window_size, stride=1)[0, 0]
    y, x = torch.nonzero((inner == greatest) & (inner > threshold), as_tuple=True)
    y, x = y + radius, x + radius
    if keep is not None:
        kept = keep[y, x]
        y, x = y[kept], x[kept]
    if window_size > 1:
        # The pooled maximum says that no other value is greater; ties must go too.
        offset = torch.arange(-radius, radius + 1, device=heatmap.device)
        window = heatmap[
            y[:, None, None] + offset[None, :, None], x[:, None, None] + offset[None, None, :]
        ]
        alone = (window == heatmap[y, x][:, None, None]).sum(dim=(1, 2)) == 1
        y, x = y[alone], x[alone]
    scores = heatmap[y, x]
    if max_keypoints is not None and len(scores) > max_keypoints:
        strongest = torch.sort(scores, descending=True, stable=True).indices[:max_keypoints]
        kept = strongest.sort().values
        y, x, scores = y[kept], x[kept], scores[kept]
    return torch.stack([x, y], dim=1), scores
