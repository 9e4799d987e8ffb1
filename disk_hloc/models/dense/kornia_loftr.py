"""LoFTR, to compare DISK with.

Sun, Shen, Wang, Bao, Zhou, "LoFTR: Detector-Free Local Feature Matching with Transformers", CVPR
2021. The network is kornia's. No package has its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from kornia.feature.loftr.loftr import default_cfg
from torch import Tensor

from disk_hloc.confs import Value, number
from disk_hloc.weights import load_loftr

from ..base import DenseMatcher, kornia_class


class LoFTR(DenseMatcher):
    """Matches two images without keypoints.

    The conf:
        weights: ``loftr_outdoor``, or the path of a checkpoint.
        match_threshold: a match's confidence is greater.
        max_keypoints: not the network's: :mod:`disk_hloc.stages.dense` keeps this many keypoints
            of a photo, those with the best matches; None keeps all.

    Raises:
        DiskHlocError: an unknown key in the conf, or weights that are missing or of another
            network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "loftr_outdoor",
        "match_threshold": 0.2,
        "max_keypoints": None,
    }
    conf_values: ClassVar[dict[str, Value]] = {"match_threshold": number(0, 1)}
    # That of the coarse features.
    stride: ClassVar[int] = 8

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        parameters = load_loftr(self.conf["weights"])
        options: dict[str, Any] = deepcopy(default_cfg)
        options["match_coarse"]["thr"] = self.conf["match_threshold"]
        self.net = kornia_class("LoFTR")(None, options)
        self.load_parameters(self.net, parameters, "LoFTR")
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
