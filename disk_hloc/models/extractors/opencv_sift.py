"""RootSIFT, to compare DISK with.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004; Arandjelovic and
Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012. Detector and
descriptor are OpenCV's with COLMAP's settings: its threshold of contrast, and keypoints of the
largest scale first. On ten photos of the Image Matching Challenge's Reichstag, with 2,924 keypoints
an image, a pair then has 201 matches; COLMAP's SIFT has 208. With 2,048 keypoints these settings
give 150, OpenCV's own 94.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from disk_hloc.confs import TRUE_OR_FALSE, Value, number

from ..base import Detections, Extractor

DESCRIPTOR_DIM = 128


class SIFT(Extractor):
    """Detects and describes keypoints with SIFT, on the CPU.

    A place with several orientations gives that many keypoints, each with its own descriptor.

    The conf:
        max_keypoints: the maximum number of keypoints, those of the largest scale; None keeps all.
            (COLMAP counts places, which may be half as many as their orientations.)
        contrast_threshold: OpenCV's ``contrastThreshold``, three times COLMAP's peak threshold.
        edge_threshold: OpenCV's ``edgeThreshold``, the greatest ratio of principal curvatures.
        root: take the square roots of descriptors of unit sum (RootSIFT).

    Scores are scales in pixels, descriptors have 128 dimensions.

    Raises:
        DiskHlocError: an unknown key in the conf.
    """

    default_matcher: ClassVar[str] = "sift-ratio"
    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": None,
        "contrast_threshold": 0.02,
        "edge_threshold": 10,
        "root": True,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "contrast_threshold": number(0),
        "edge_threshold": number(0),
        "root": TRUE_OR_FALSE,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.sift = cv2.SIFT.create(
            contrastThreshold=self.conf["contrast_threshold"],
            edgeThreshold=self.conf["edge_threshold"],
            # Without it every keypoint lies a quarter of a pixel off.
            enable_precise_upscale=True,
        )

    def detect(self, image: Tensor) -> Iterator[Detections]:
        for one in image:
            found, descriptors = self.sift.detectAndCompute(_gray(one), None)
            if descriptors is None:
                descriptors = np.zeros((0, DESCRIPTOR_DIM), np.float32)
            yield self._detections(found, descriptors)

    def _detections(self, found: Sequence[cv2.KeyPoint], descriptors: np.ndarray) -> Detections:
        keypoints = np.array([keypoint.pt for keypoint in found], np.float32).reshape(-1, 2)
        scales = np.array([keypoint.size / 2 for keypoint in found], np.float32)
        return Detections.of_one(
            torch.from_numpy(scales),
            lambda chosen: torch.from_numpy(keypoints[chosen.numpy()]),
            lambda chosen: torch.from_numpy(self._unit(descriptors[chosen.numpy()]).T),
        )

    def best(self, scores: Tensor, max_keypoints: int | None) -> Tensor:
        """Return the indices of the largest scales, in their order, equal ones as detected."""
        return torch.sort(scores, descending=True, stable=True).indices[:max_keypoints]

    def _unit(self, descriptors: np.ndarray) -> np.ndarray:
        if self.conf["root"]:
            total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
            return np.sqrt(descriptors / total)
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return descriptors / np.maximum(length, 1e-12)


def _gray(image: Tensor) -> np.ndarray:
    """Convert (C, H, W) in [0, 1] to (H, W) uint8, which OpenCV's SIFT takes."""
    levels = (image * 255).round().clamp(0, 255).byte().cpu().numpy()
    return (
        levels[0]
        if len(levels) == 1
        else cv2.cvtColor(levels.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
    )
