"""LightGlue, for whichever features its weights were trained on.

Lindenberger, Sarlin, Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023.
The network is kornia's, with another arrangement of its cross-attention.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.confs import Value, number
from disk_hloc.weights import load_network

from .base import Matcher, kornia_class

# Of the release: a match's thresholds, see LightGlue below.
THRESHOLDS = {"depth_confidence": 0.95, "width_confidence": 0.99, "filter_threshold": 0.1}


class LightGlue(Matcher):
    """Matches features with LightGlue.

    The conf has hloc's keys:
        weights: the name of a checkpoint, or its path.
        depth_confidence: stop early when this share of the points is certain; -1 never stops.
        width_confidence: drop points that are this certainly unmatchable; -1 never drops.
        filter_threshold: a match's score is greater.

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
    }
    features: ClassVar[str]
    architecture: ClassVar[dict[str, int]]
    prefix: ClassVar[str] = ""
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
        options = {key: value for key, value in self.conf.items() if key != "weights"}
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
        for layer in self.net.transformers:
            layer.cross_attn = CrossAttention(layer.cross_attn)
        self.eval()

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


class CrossAttention(nn.Module):
    """Kornia's block of cross-attention, without a matrix of all pairs of keypoints on a CPU.

    Kornia writes that matrix, its transpose and both softmaxes, 400 MB each for 5,000 keypoints,
    which takes three quarters of LightGlue's time. Here torch's attention is called once for each
    image: it computes the products twice, and keeps them in the cache.

    Args:
        block: kornia's, with its parameters.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x0: Tensor, x1: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Update the (B, N, D) and (B, M, D) descriptors of two images by each other."""
        block = self.block
        if x0.device.type != "cpu" or mask is not None:
            return block(x0, x1, mask)
        keys0, keys1, values0, values1 = (
            projected.unflatten(-1, (block.heads, -1)).transpose(1, 2)
            for projected in (block.to_qk(x0), block.to_qk(x1), block.to_v(x0), block.to_v(x1))
        )
        updated = []
        for x, queries, keys, values in (
            (x0, keys0, keys1, values1),
            (x1, keys1, keys0, values0),
        ):
            message = F.scaled_dot_product_attention(queries, keys, values)
            message = block.to_out(message.transpose(1, 2).flatten(start_dim=-2))
            updated.append(x + block.ffn(torch.cat([x, message], dim=-1)))
        return updated[0], updated[1]


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
