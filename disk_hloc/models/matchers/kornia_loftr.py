"""LoFTR, to compare DISK with.

Sun, Shen, Wang, Bao, Zhou, "LoFTR: Detector-Free Local Feature Matching with Transformers", CVPR
2021. The network is kornia's. No package carries its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import kornia.feature
import torch
from kornia.feature.loftr.loftr import default_cfg
from torch import Tensor, nn

from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import load_loftr

# Sides of images are multiples of it, the stride of the coarse features.
STRIDE = 8


class LoFTR(nn.Module):
    """Matches two images without keypoints.

    The conf:
        weights: ``loftr_outdoor``, or the path of a checkpoint.
        match_threshold: a match's confidence lies above it.

    Raises:
        DiskHlocError: the weights are missing or of another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {"weights": "loftr_outdoor", "match_threshold": 0.2}
    required_data_keys: ClassVar[list[str]] = ["image0", "image1"]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        parameters = load_loftr(self.conf["weights"])
        options: dict[str, Any] = deepcopy(default_cfg)
        options["match_coarse"]["thr"] = self.conf["match_threshold"]
        self.net = kornia.feature.LoFTR(None, options)
        try:
            self.net.load_state_dict(parameters)
        except RuntimeError as error:
            raise DiskHlocError(
                f"weights {str(self.conf['weights'])!r} are of another network than LoFTR: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        self.eval()

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match one pair of images.

        Args:
            data: ``image0`` (1, 1, H0, W0) and ``image1`` (1, 1, H1, W1), grayscale float in
                [0, 1], sides multiples of 8.

        Returns:
            ``keypoints0`` and ``keypoints1`` (K, 2) float32, x and y in pixels, (0, 0) at the
            centre of the top-left pixel; ``scores`` (K,) in [0, 1].
        """
        found = self.net({"image0": data["image0"], "image1": data["image1"]})
        # The network puts that centre at (0.5, 0.5), as kornia (0.9) found out; hloc does not.
        return {
            "keypoints0": found["keypoints0"].float() - 0.5,
            "keypoints1": found["keypoints1"].float() - 0.5,
            "scores": found["confidence"].float(),
        }

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device
