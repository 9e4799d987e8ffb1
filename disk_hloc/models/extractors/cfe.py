"""CFE's detector and descriptor.

The network and its source are in :mod:`disk_hloc.models.cfe_network`. Its weights are not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from disk_hloc.confs import TRUE_OR_FALSE, Value, number
from disk_hloc.weights import fitting, load_cfe

from ..base import Detections, Extractor
from ..cfe_keypoints import find_cfe_keypoints
from ..cfe_network import DESCRIPTOR_DIM, CFENetwork, Level, depth_of_trunk
from ..disk_network.keypoints import find_keypoints, refine_keypoints
from ..sampling import sample

WINDOW_SIZE = 3
# The published code places cell p of every level at pixel 4 p + 1.5.
RELEASED_STRIDE, RELEASED_CENTRE = 4.0, 1.5
# By how much its first convolution makes the image smaller, in pixels.
RELEASED_LOSS = 6


class CFE(Extractor):
    """Detects and describes keypoints at three levels of a ResNet-50.

    Each level has keypoints of its own, so that a place may have three, with other descriptors.

    The conf:
        weights: the path of a checkpoint, of the published code or of ``disk-hloc train``.
        max_keypoints: the maximum number of keypoints, the best of all levels; None keeps all.
        detection_threshold: a keypoint's score is greater; with ``release``, or equal.
        bounded: scores are ``s / (1 + s)``, as of the published checkpoints with ``_sm`` in their
            names.
        levels_of_gray: the network takes levels from 0 to 255, with which the published code
            trained it, instead of a normalised image. Not with ``release``, which is what that
            code did to extract.
        release: detect and describe as the published code.

    Without ``release``, keypoints are the strict maxima of 3 x 3 cells, moved to the peak of a
    quadratic, and in pixels they are where the cells of their level are centred. With it, minima
    and saddles are keypoints, too, and those of all levels are placed as if a cell were centred 1.5
    pixels beside a multiple of 4. They are up to 10.5 pixels off, and may lie outside the image.

    Scores are greater than 0, descriptors have 64 dimensions.

    Raises:
        DiskHlocError: an unknown key or value in the conf, or weights that are missing or of
            another network.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "cfe",
        "max_keypoints": None,
        "detection_threshold": 0.3,
        "bounded": False,
        "levels_of_gray": False,
        "release": False,
    }
    conf_values: ClassVar[dict[str, Value]] = {
        "detection_threshold": number(0),
        "bounded": TRUE_OR_FALSE,
        "levels_of_gray": TRUE_OR_FALSE,
        "release": TRUE_OR_FALSE,
    }
    images_at_once: ClassVar[dict[str, int]] = {}
    trainable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        release = self.conf["release"]
        parameters = load_cfe(self.conf["weights"])
        with fitting(self.conf["weights"], "CFE"):
            self.net = CFENetwork(
                stem_stride=1,
                stem_padding=3 if release else 6,
                bounded=self.conf["bounded"],
                levels_of_gray=self.conf["levels_of_gray"] and not release,
                depth=depth_of_trunk(parameters),
            )
        self.load_parameters(self.net, parameters, "CFE")
        self.eval()

    def detect(self, image: Tensor) -> Iterator[Detections]:
        for one in image.split(1):
            if self.conf["release"] and min(one.shape[2:]) <= RELEASED_LOSS:
                no_level = one.new_zeros(0, 2), one.new_zeros(0), one.new_zeros(DESCRIPTOR_DIM, 0)
                yield _together([no_level])
                continue
            yield _together([self._of_level(level) for level in self.net(one)])

    def _of_level(self, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, 2) x and y in pixels, (N,) scores and (64, N) descriptors."""
        threshold = self.conf["detection_threshold"]
        scores = level.scores[0, 0]
        stride, centre = level.stride, level.centre
        if self.conf["release"]:
            cells, chosen = find_cfe_keypoints(scores, threshold)
            stride, centre = (RELEASED_STRIDE, RELEASED_STRIDE), RELEASED_CENTRE
        else:
            cells, chosen = find_keypoints(scores, WINDOW_SIZE, threshold)
            cells = refine_keypoints(scores, cells)
        descriptors = F.normalize(sample(level.descriptors, cells[None], 1.0)[0], dim=0)
        return cells * cells.new_tensor(stride) + centre, chosen, descriptors


def _together(levels: list[tuple[Tensor, Tensor, Tensor]]) -> Detections:
    xy = torch.cat([of_level[0] for of_level in levels])
    scores = torch.cat([of_level[1] for of_level in levels])
    descriptors = torch.cat([of_level[2] for of_level in levels], dim=1)
    return Detections.of_one(
        scores, lambda chosen: xy[chosen], lambda chosen: descriptors[:, chosen]
    )
