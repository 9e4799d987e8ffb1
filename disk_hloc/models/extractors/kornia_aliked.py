"""ALIKED, to compare DISK with.

Zhao, Wu, Chen, Chen, Xu, Li, "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via
Deformable Transformation", IEEE Transactions on Instrumentation and Measurement, 2023. The network
is kornia's, whose deformable convolution does without torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature
import torch
from torch import Tensor, nn

from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import load_aliked

NETWORK = "aliked-n16"


class ALIKED(nn.Module):
    """Detects and describes keypoints with ALIKED(16), the network that LightGlue was trained on.

    The conf:
        weights: ``aliked-n16``, or the path of a checkpoint of that network.
        max_keypoints: the best so many are kept; None keeps all.
        detection_threshold: a keypoint's score, 0 to 1, lies above it; an image without any has
            those above its mean score.
        nms_radius: a keypoint is the greatest of a square of ``2 nms_radius + 1`` pixels.

    Raises:
        DiskHlocError: the weights are missing or of another network, or kornia has no ALIKED.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": NETWORK,
        "max_keypoints": None,
        "detection_threshold": 0.2,
        "nms_radius": 2,
    }
    required_data_keys: ClassVar[list[str]] = ["image"]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        if not hasattr(kornia.feature, "ALIKED"):
            raise DiskHlocError(
                f"kornia {kornia.__version__} has no ALIKED: pip install --upgrade kornia"
            )
        parameters = load_aliked(self.conf["weights"])
        self.net = kornia.feature.ALIKED(
            NETWORK,
            detection_threshold=self.conf["detection_threshold"],
            nms_radius=self.conf["nms_radius"],
        )
        try:
            missing, _ = self.net.load_state_dict(parameters, strict=False)
        except RuntimeError as error:
            raise self._of_another_network(str(error)) from error
        # A table of pixel offsets, which is no parameter.
        missing = [name for name in missing if name != "dkd.hw_grid"]
        if missing:
            raise self._of_another_network(f"it lacks {', '.join(missing[:3])}, ...")
        self.eval()

    def forward(self, data: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """Keypoints of a batch of images.

        Args:
            data: ``image``, (B, 3, H, W) RGB or (B, 1, H, W) grayscale float in [0, 1];
                optionally ``keep``, as :meth:`disk_hloc.models.extractors.disk.DISK.forward`.

        Returns:
            For each of B images
            ``keypoints`` (N, 2) float32, x and y in pixels, (0, 0) at the centre of the top-left
            pixel; ``keypoint_scores`` (N,) float32 in [0, 1]; ``descriptors`` (128, N) float32 of
            unit length.
        """
        image = data["image"]
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        height, width = image.shape[-2:]
        scale = image.new_tensor([width - 1, height - 1])
        features, score_map = self.net.extract_dense_map(image)
        prediction: dict[str, list[Tensor]] = {
            "keypoints": [],
            "keypoint_scores": [],
            "descriptors": [],
        }
        for i in range(len(image)):
            # In kornia's frame, -1 and 1 at the centres of the outermost pixels.
            places, scores, *_ = (values[0] for values in self.net.dkd(score_map[i : i + 1]))
            keypoints = (places + 1) / 2 * scale
            if data.get("keep") is not None:
                kept = data["keep"][i](keypoints)
                places, scores, keypoints = places[kept], scores[kept], keypoints[kept]
            limit = self.conf["max_keypoints"]
            if limit is not None and len(scores) > limit:
                best = scores.topk(limit).indices
                places, scores, keypoints = places[best], scores[best], keypoints[best]
            prediction["keypoints"].append(keypoints)
            prediction["keypoint_scores"].append(scores)
            prediction["descriptors"].append(self._describe(features[i : i + 1], places))
        return prediction

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    def _describe(self, features: Tensor, places: Tensor) -> Tensor:
        if len(places) == 0:
            return features.new_zeros(features.shape[1], 0)
        descriptors, _ = self.net.desc_head(features, [places])
        return descriptors[0].T.contiguous()

    def _of_another_network(self, reason: str) -> DiskHlocError:
        return DiskHlocError(
            f"weights {str(self.conf['weights'])!r} are of another network than {NETWORK}: "
            f"{' '.join(reason.split())[:200]}"
        )
