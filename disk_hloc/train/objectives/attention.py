"""Attention from known correspondences: high where few other descriptors are alike, with peaks.

The objective of CFE ("Using multi-level convolutional information for scale- and viewpoint-robust
local features", report of RomeoV/deep-local-features on GitHub): the attention of a cell is pulled
to (1 + m)^-tau, where m counts the descriptors of the other image that are nearer than a margin,
with the match itself among them. The term for peaks is that of R2D2 (Revaud et al., NeurIPS 2019,
section 3.1). Descriptors get no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError

from ..correspondences import corresponding
from ..data import Batch
from ..dense import centers, describe, sample
from ..features import Level
from .dense_pairs import Seen, backward_dense_pairs
from .hardest import centers_inside


class AttentionFigures(NamedTuple):
    """Figures of a pair of images, summed over levels.

    Attributes:
        loss: the loss.
        distinctiveness: mean difference of attention and target, summed over both images.
        peaky: the term for peaks, from 0 to 1 for each level.
        n_matches: number of known correspondences, mean over levels.
    """

    loss: float
    distinctiveness: float
    peaky: float
    n_matches: float


def objective(
    settings: Conf, network: nn.Module, batch: Batch, epoch: int
) -> tuple[Tensor, list[AttentionFigures]]:
    """Differentiate the loss of the attention of all pairs, summed over levels.

    Raises:
        DiskHlocError: the network has no attention.
    """
    threshold = settings["reward"]["threshold"]
    return backward_dense_pairs(network, batch, partial(_of_pair, settings["attention"], threshold))


def _of_pair(
    conf: Mapping[str, Any], threshold: float, first: Seen, second: Seen
) -> tuple[Tensor, AttentionFigures]:
    distinct, peaky = [], []
    count = 0
    for level1, level2 in zip(first.levels, second.levels, strict=True):
        if level1.scores is None or level2.scores is None:
            raise DiskHlocError(
                "the network has no attention to train: choose another objective than attention"
            )
        xy1 = centers_inside(level1, first.size)
        xy1, xy2 = corresponding(xy1, first.view, second.view, second.size, threshold)
        count += len(xy1)
        distinct.append(
            distinctiveness(level1, level2, xy1, xy2, margin=conf["margin"], tau=conf["tau"])
        )
        peaky.append(
            (peakiness(level1.scores, conf["window"]) + peakiness(level2.scores, conf["window"]))
            / 2
        )
    first_term, second_term = torch.stack(distinct).sum(), torch.stack(peaky).sum()
    loss = first_term + conf["peaky"] * second_term
    return loss, AttentionFigures(
        float(loss.detach()),
        float(first_term.detach()),
        float(second_term.detach()),
        count / len(peaky),
    )


def distinctiveness(
    level1: Level, level2: Level, xy1: Tensor, xy2: Tensor, *, margin: float, tau: float
) -> Tensor:
    """Return the mean difference of attention and target at matches, summed over both images.

    Args:
        level1, level2: dense maps with attention.
        xy1, xy2: (N, 2) corresponding positions in pixels.
        margin: descriptors that are nearer count.
        tau: exponent of the target.
    """
    total = torch.zeros((), dtype=xy1.dtype, device=xy1.device)
    for one, xy, other in ((level1, xy1, level2), (level2, xy2, level1)):
        assert one.scores is not None
        target = distinctive(describe(one, xy), other, margin, tau)
        attention = sample(one, one.scores[None], xy)[:, 0]
        total = total + (attention - target).abs().sum() / max(1, len(xy))
    return total


@torch.no_grad()
def distinctive(descriptors: Tensor, other: Level, margin: float, tau: float) -> Tensor:
    """Return the (N,) targets of (N, D) descriptors of unit length, by those of another image."""
    everywhere = describe(other, centers(other))
    near = (torch.cdist(descriptors, everywhere) < margin).sum(dim=1)
    return (1 + near).to(descriptors.dtype) ** -tau


def peakiness(scores: Tensor, window: int) -> Tensor:
    """Return 1 minus the mean difference of maximum and mean in windows, and at least 0.

    Args:
        scores: (h, w) attention, smoothed by 3 x 3 means first.
        window: even; windows have one more cell a side.
    """
    smooth = F.avg_pool2d(scores[None, None], 3, stride=1, padding=1)
    side, border = window + 1, window // 2
    highest = F.max_pool2d(smooth, side, stride=1, padding=border)
    mean = F.avg_pool2d(smooth, side, stride=1, padding=border)
    return (1 - (highest - mean).mean()).clamp(min=0)
