"""LightGlue, for whichever features its weights were trained on.

Lindenberger, Sarlin, Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023.
The parameters are in kornia's network, and :class:`.network.Network` computes with them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from disk_hloc.confs import Value, number, one_of
from disk_hloc.device import has_fast_bfloat16
from disk_hloc.weights import load_network

from ..base import Matcher, kornia_class
from .network import Network

# Keys of the conf that all have; the thresholds are those of the release, see LightGlue below.
DEFAULTS = {
    "depth_confidence": 0.95,
    "width_confidence": 0.99,
    "filter_threshold": 0.1,
    "precision": "auto",
}


class LightGlue(Matcher):
    """Matches features with LightGlue.

    The conf has hloc's keys:
        weights: the name of a checkpoint, or its path.
        depth_confidence: stop early when this share of the points is certain; -1 never stops.
        width_confidence: drop points that are this certainly unmatchable; -1 never drops.
        filter_threshold: a match's score is greater.
        precision: ``float32``, ``bfloat16`` or ``float16``, of products. ``auto`` is float16 on
            CUDA, bfloat16 where a CPU has instructions for it, and float32 elsewhere. In float32
            the matches of a CPU are kornia's up to rounding, in bfloat16 98 % of them.

    A GPU drops no points, so that it can match many pairs at once.

    Attributes:
        features: the features that the weights were trained on.
        architecture: sizes of the network, as arguments of ``kornia.feature.LightGlue``.
        prefix: of the names of the parameters in a checkpoint.

    Raises:
        DiskHlocError: an unknown key in the conf, or weights that are missing or of another
            network.
    """

    conf_values: ClassVar[dict[str, Value]] = {
        "depth_confidence": number(-1, 1),
        "width_confidence": number(-1, 1),
        "filter_threshold": number(0, 1),
        "precision": one_of("auto", "float32", "bfloat16", "float16"),
    }
    features: ClassVar[str]
    architecture: ClassVar[dict[str, int]]
    prefix: ClassVar[str] = ""
    pairs_at_once: ClassVar[dict[str, int]] = {"cuda": 16}
    takes_unequal: ClassVar[bool] = True
    # 256 float32 values of each keypoint, for 128 of its descriptor.
    bytes_kept: ClassVar[dict[str, int]] = {"cpu": 8}
    required_data_keys: ClassVar[list[str]] = [
        "keypoints0",
        "descriptors0",
        "image_size0",
        "keypoints1",
        "descriptors1",
        "image_size1",
    ]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        content = load_network(self.conf["weights"], "LightGlue", f"{self.prefix}posenc.Wr.weight")
        options = {
            key: value for key, value in self.conf.items() if key not in ("weights", "precision")
        }
        # Older kornia prints a greeting on stdout.
        with contextlib.redirect_stdout(io.StringIO()):
            # Without named features nothing is downloaded.
            self.net = kornia_class("LightGlue")(features=None, **self.architecture, **options)
        # The release's file has a few parameters that no version of the code uses; the thresholds
        # follow from the number of layers.
        self.load_parameters(
            self.net,
            _rename(content, self.prefix),
            f"LightGlue for {self.features}",
            derived=["confidence_thresholds"],
        )
        self.eval().requires_grad_(False)
        # Not submodules: each stays on its device.
        self._networks: dict[torch.device, Network] = {}

    def network(self) -> Network:
        """Return what computes on the device of the parameters."""
        if self.device not in self._networks:
            self._networks[self.device] = Network(self.net, self._dtype())
        return self._networks[self.device]

    def _dtype(self) -> torch.dtype:
        precision = self.conf["precision"]
        if precision != "auto":
            return getattr(torch, precision)
        if self.device.type == "cuda":
            return torch.float16
        fast = self.device.type == "cpu" and has_fast_bfloat16()
        return torch.bfloat16 if fast else torch.float32

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a batch of image pairs.

        Args:
            data: for i = 0, 1: ``keypoints{i}`` (B, N, 2) in pixels of the original image,
                ``descriptors{i}`` (B, D, N) of unit length, ``image_size{i}`` (B, 2) width and
                height in pixels; optionally ``num_keypoints{i}`` (B,), as
                :class:`~disk_hloc.models.base.Matcher` says.

        Returns:
            ``matches0`` (B, N) int64, -1 for no match; ``matching_scores0`` (B, N) in [0, 1].
        """
        keypoints, descriptors, sizes = (
            (data[f"{key}0"], data[f"{key}1"]) for key in ("keypoints", "descriptors", "image_size")
        )
        if 0 in (keypoints[0].shape[1], keypoints[1].shape[1]):
            scores = torch.zeros_like(keypoints[0][..., 0])
            return {
                "matches0": torch.full_like(scores, -1, dtype=torch.int64),
                "matching_scores0": scores,
            }
        counts = None
        if "num_keypoints0" in data:
            counts = data["num_keypoints0"], data["num_keypoints1"]
        matches, scores = self.network()(
            keypoints,
            (descriptors[0].transpose(1, 2), descriptors[1].transpose(1, 2)),
            (sizes[0].to(keypoints[0]), sizes[1].to(keypoints[1])),
            counts,
        )
        return {"matches0": matches, "matching_scores0": scores}


def _rename(parameters: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Rename the release's ``self_attn.3.x`` to kornia's ``transformers.3.self_attn.x``."""
    renamed = {}
    for name, value in parameters.items():
        name = name.removeprefix(prefix)
        head, *rest = name.split(".")
        if head in ("self_attn", "cross_attn"):
            layer, *tail = rest
            name = ".".join(["transformers", layer, head, *tail])
        renamed[name] = value
    return renamed
