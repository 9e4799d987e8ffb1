"""RootSIFT, to compare DISK with.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004; Arandjelovic and
Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012. Detector and
descriptor are OpenCV's with COLMAP's settings: its threshold of contrast, and keypoints of the
greatest scale first. On ten photos of the Image Matching Challenge's Reichstag they then find as
many matches with as many keypoints (201 and 208 a pair with 2,924 keypoints). With 2,048 these
settings give 150, OpenCV's own 94.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

DESCRIPTOR_DIM = 128


class SIFT(nn.Module):
    """Detects and describes keypoints with SIFT.

    Runs on the CPU. A place with several orientations gives as many keypoints there, each with a
    descriptor of its own.

    The conf:
        max_keypoints: so many of the greatest scale are kept; None keeps all. (COLMAP counts
            places, which may be half as many as their orientations.)
        contrast_threshold: OpenCV's ``contrastThreshold``, three times COLMAP's peak threshold.
        edge_threshold: OpenCV's ``edgeThreshold``, the greatest ratio of principal curvatures.
        root: take the square roots of descriptors of unit sum (RootSIFT).
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": None,
        "contrast_threshold": 0.02,
        "edge_threshold": 10,
        "root": True,
    }
    required_data_keys: ClassVar[list[str]] = ["image"]

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **(conf or {})}
        self.sift = cv2.SIFT.create(
            contrastThreshold=self.conf["contrast_threshold"],
            edgeThreshold=self.conf["edge_threshold"],
            # Without it every keypoint lies a quarter of a pixel off.
            enable_precise_upscale=True,
        )

    def forward(self, data: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """Keypoints of a batch of images.

        Args:
            data: ``image``, (B, 3, H, W) RGB or (B, 1, H, W) grayscale float in [0, 1];
                optionally ``keep``, as :meth:`disk_hloc.models.extractors.disk.DISK.forward`.

        Returns:
            For each of B images
            ``keypoints`` (N, 2) float32, x and y in pixels, (0, 0) at the centre of the top-left
            pixel; ``keypoint_scores`` (N,) float32, the scales in pixels; ``descriptors`` (128, N)
            float32 of unit length.
        """
        prediction: dict[str, list[Tensor]] = {
            "keypoints": [],
            "keypoint_scores": [],
            "descriptors": [],
        }
        for i, image in enumerate(data["image"]):
            keypoints, scores, descriptors = self._detect(_gray(image))
            if data.get("keep") is not None:
                kept = data["keep"][i](torch.from_numpy(keypoints)).numpy()
                keypoints, scores, descriptors = keypoints[kept], scores[kept], descriptors[kept]
            best = np.argsort(-scores, kind="stable")[: self.conf["max_keypoints"]]
            prediction["keypoints"].append(torch.from_numpy(keypoints[best]))
            prediction["keypoint_scores"].append(torch.from_numpy(scores[best]))
            prediction["descriptors"].append(torch.from_numpy(self._unit(descriptors[best]).T))
        return prediction

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device("cpu")

    def _detect(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, descriptors = self.sift.detectAndCompute(gray, None)
        if descriptors is None:
            descriptors = np.zeros((0, DESCRIPTOR_DIM), np.float32)
        keypoints = np.array([keypoint.pt for keypoint in found], np.float32).reshape(-1, 2)
        return (
            keypoints,
            np.array([keypoint.size / 2 for keypoint in found], np.float32),
            descriptors,
        )

    def _unit(self, descriptors: np.ndarray) -> np.ndarray:
        if self.conf["root"]:
            total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
            return np.sqrt(descriptors / total)
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return descriptors / np.maximum(length, 1e-12)


def _gray(image: Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1] to (H, W) uint8, which is what OpenCV's SIFT takes."""
    levels = (image * 255).round().clamp(0, 255).byte().cpu().numpy()
    return (
        levels[0]
        if len(levels) == 1
        else cv2.cvtColor(levels.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
    )
