"""LightGlue, for whichever features its weights were trained on.

Lindenberger, Sarlin, Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023.
The network is kornia's, whose blocks are replaced on a CPU: see :mod:`.lightglue_cpu`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from disk_hloc.confs import Value, number, one_of
from disk_hloc.weights import load_network

from . import lightglue_cpu
from .base import Matcher, kornia_class

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
        precision: ``float32`` or ``bfloat16`` of the products on a CPU; ``auto`` is bfloat16 where
            the CPU has instructions for it, and float32 elsewhere. In float32 the matches are
            kornia's up to rounding, in bfloat16 98 % of them. A GPU is not affected.

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
        "precision": one_of("auto", "float32", "bfloat16"),
    }
    features: ClassVar[str]
    architecture: ClassVar[dict[str, int]]
    prefix: ClassVar[str] = ""
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
        lightglue_cpu.replace_blocks(self.net, self._dtype())
        self.eval().requires_grad_(False)

    def _dtype(self) -> torch.dtype:
        precision = self.conf["precision"]
        if precision == "auto":
            precision = "bfloat16" if lightglue_cpu.has_fast_bfloat16() else "float32"
        return getattr(torch, precision)

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a batch of image pairs.

        Args:
            data: for i = 0, 1: ``keypoints{i}`` (B, N, 2) in pixels of the original image,
                ``descriptors{i}`` (B, D, N) of unit length, ``image_size{i}`` (B, 2) width and
                height in pixels.

        Returns:
            ``matches0`` (B, N) int64, -1 for no match; ``matching_scores0`` (B, N) in [0, 1].
        """
        count0, count1 = data["keypoints0"].shape[1], data["keypoints1"].shape[1]
        if min(count0, count1) == 0:
            shape = (len(data["keypoints0"]), count0)
            device = data["keypoints0"].device
            return {
                "matches0": torch.full(shape, -1, dtype=torch.int64, device=device),
                "matching_scores0": torch.zeros(shape, device=device),
            }
        prediction = self.net({f"image{i}": _one_side(data, i) for i in (0, 1)})
        return {key: prediction[key] for key in ("matches0", "matching_scores0")}


def _one_side(data: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    size = data[f"image_size{i}"].to(data[f"keypoints{i}"])
    # kornia refuses keypoints outside the image, where enlarging it can put them by half a pixel.
    keypoints = data[f"keypoints{i}"].clamp(min=0).minimum(size[:, None])
    return {
        "keypoints": keypoints,
        "descriptors": data[f"descriptors{i}"].transpose(-1, -2),
        "image_size": size,
    }


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
