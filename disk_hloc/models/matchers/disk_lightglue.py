"""LightGlue with the weights that were trained on DISK, and on ALIKED to compare with.

Lindenberger, Sarlin, Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023.
The network is kornia's.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature
import torch
from torch import Tensor, nn

from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import load_lightglue

# Of DISK and of ALIKED.
DESCRIPTOR_DIM = 128


class DiskLightGlue(nn.Module):
    """Matches DISK features with LightGlue.

    The conf has hloc's keys:
        weights: ``disk_lightglue``, or the path of a checkpoint.
        depth_confidence: stop early when so much of the points is certain; -1 never stops.
        width_confidence: drop points this certainly unmatchable; -1 never drops.
        filter_threshold: a match's score lies above it.

    Raises:
        DiskHlocError: the weights are missing or of another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "disk_lightglue",
        "depth_confidence": 0.95,
        "width_confidence": 0.99,
        "filter_threshold": 0.1,
    }
    trained_on: ClassVar[str] = "DISK"
    required_data_keys: ClassVar[list[str]] = [
        "keypoints0",
        "descriptors0",
        "image_size0",
        "keypoints1",
        "descriptors1",
        "image_size1",
    ]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        parameters = _rename(load_lightglue(self.conf["weights"]))
        options = {key: self.conf[key] for key in self.default_conf if key != "weights"}
        # Older kornia prints a greeting on stdout.
        with contextlib.redirect_stdout(io.StringIO()):
            self.net = kornia.feature.LightGlue(
                features=None,  # type: ignore[arg-type]  # no download
                input_dim=DESCRIPTOR_DIM,
                **options,
            )
        try:
            # The release's file has a few parameters more that no version of the code uses.
            missing, _ = self.net.load_state_dict(parameters, strict=False)
        except RuntimeError as error:
            raise self._of_another_network(str(error)) from error
        # The thresholds follow from the number of layers; they are no parameters.
        missing = [name for name in missing if name != "confidence_thresholds"]
        if missing:
            raise self._of_another_network(f"it lacks {', '.join(missing[:3])}, ...")
        self.eval()

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a batch of image pairs.

        Args:
            data: for i = 0, 1: ``keypoints{i}`` (B, N, 2) in pixels of the original image,
                ``descriptors{i}`` (B, 128, N) of unit length, ``image_size{i}`` (B, 2) width and
                height in pixels.

        Returns:
            ``matches0`` (B, N) int64, -1 for none; ``matching_scores0`` (B, N) in [0, 1].
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

    def _of_another_network(self, reason: str) -> DiskHlocError:
        return DiskHlocError(
            f"weights {str(self.conf['weights'])!r} are of another network than LightGlue for "
            f"{self.trained_on}: {' '.join(reason.split())[:200]}"
        )


class AlikedLightGlue(DiskLightGlue):
    """The same with the weights that were trained on ALIKED; ``weights``: ``aliked_lightglue``."""

    default_conf: ClassVar[dict[str, Any]] = {
        **DiskLightGlue.default_conf,
        "weights": "aliked_lightglue",
    }
    trained_on: ClassVar[str] = "ALIKED"


def _one_side(data: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    size = data[f"image_size{i}"].to(data[f"keypoints{i}"])
    # kornia refuses keypoints outside the image, where enlarging it can put them by half a pixel.
    keypoints = data[f"keypoints{i}"].clamp(min=0).minimum(size[:, None])
    return {
        "keypoints": keypoints,
        "descriptors": data[f"descriptors{i}"].transpose(-1, -2),
        "image_size": size,
    }


def _rename(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The release's names ``self_attn.3.x`` to kornia's ``transformers.3.self_attn.x``."""
    renamed = {}
    for name, value in parameters.items():
        head, *rest = name.split(".")
        if head in ("self_attn", "cross_attn"):
            layer, *tail = rest
            name = ".".join(["transformers", layer, head, *tail])
        renamed[name] = value
    return renamed
