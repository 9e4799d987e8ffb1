"""Descriptors from known correspondences: each close to its match, far from its hardest negative.

The hardest negative is the most similar descriptor among those that are not near the match. There
are two losses:

* ``contrastive``: the mean distance of matches, plus the mean of (margin - distance)+ over
  negatives that are nearer than the margin. Neither is squared. Choy, Gwak, Savarese, Chandraker,
  "Universal correspondence network", NeurIPS 2016, as in MSNet (lin-zju/my-descriptor-space on
  GitHub).
* ``triplet``: the mean of (margin + d^2 - n^2)+, for the distance d of a match and that of the
  hardest negative n in either image. Dusmanu et al., "D2-Net", CVPR 2019, section 4.2. CFE's
  encoder is trained with it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from disk_hloc.confs import Conf

from ..correspondences import corresponding, random_pixels
from ..data import Batch
from ..dense import centers, describe
from ..features import Level
from .dense_pairs import Seen, backward_dense_pairs


class HardestFigures(NamedTuple):
    """Figures of a pair of images; distances are those of descriptors.

    Attributes:
        loss: the loss, with a network's own error.
        positive: mean distance of matches.
        negative: mean distance of the hardest negatives.
        n_matches: number of known correspondences.
    """

    loss: float
    positive: float
    negative: float
    n_matches: float


class Parts(NamedTuple):
    """A loss (), and (N,) distances of matches and of their hardest negatives."""

    loss: Tensor
    positive: Tensor
    negative: Tensor


def objective(
    settings: Conf, network: nn.Module, batch: Batch, epoch: int
) -> tuple[Tensor, list[HardestFigures]]:
    """Differentiate the loss of known correspondences of all pairs, summed over levels."""
    threshold = settings["reward"]["threshold"]
    return backward_dense_pairs(network, batch, partial(_of_pair, settings["hardest"], threshold))


def _of_pair(
    conf: Mapping[str, Any], threshold: float, first: Seen, second: Seen
) -> tuple[Tensor, HardestFigures]:
    losses, positive, negative, count = [], [], [], 0
    for level1, level2 in zip(first.levels, second.levels, strict=True):
        device = level1.descriptors.device
        xy1 = (
            centers_inside(level1, first.size)
            if conf["correspondences"] is None
            else random_pixels(first.size, conf["correspondences"], device)
        )
        xy1, xy2 = corresponding(xy1, first.view, second.view, second.size, threshold)
        options = {"margin": conf["margin"], "radius": conf["radius"]}
        if conf["loss"] == "contrastive":
            start = torch.randint(conf["every"], (2,), device=device).tolist()
            parts = contrastive(
                level1, level2, xy1, xy2, every=conf["every"], start=(start[0], start[1]), **options
            )
        else:
            parts = triplet(level1, level2, xy1, xy2, **options)
        losses.append(parts.loss)
        losses += [level.error for level in (level1, level2) if level.error is not None]
        positive.append(parts.positive.detach())
        negative.append(parts.negative.detach())
        count += len(xy1)
    loss = torch.stack(losses).sum()
    return loss, HardestFigures(
        float(loss.detach()), _mean(positive), _mean(negative), count / len(positive)
    )


def contrastive(
    level1: Level,
    level2: Level,
    xy1: Tensor,
    xy2: Tensor,
    *,
    margin: float,
    radius: float,
    every: int,
    start: tuple[int, int],
) -> Parts:
    """Compute the contrastive loss, whose negatives are in the second image.

    Args:
        level1, level2: dense maps.
        xy1, xy2: (N, 2) corresponding positions in pixels.
        margin: see above.
        radius: negatives are as far as this from the match, in pixels.
        every: negatives are in every such column and row of cells.
        start: first of these columns and rows.
    """
    anchors, matches = describe(level1, xy1), describe(level2, xy2)
    width = level2.descriptors.shape[2]
    places = centers(level2).unflatten(0, (-1, width))[start[1] :: every, start[0] :: every]
    places = places.flatten(0, 1)
    candidates = describe(level2, places)
    apart = torch.cdist(xy2, places.to(xy2.dtype), compute_mode="donot_use_mm_for_euclid_dist")
    index, exists = hardest(anchors.detach(), candidates.detach(), apart >= radius)
    positive = (anchors - matches).norm(dim=1)
    negative = (anchors[exists] - candidates[index[exists]]).norm(dim=1)
    short = margin - negative
    active = short > 0
    loss = positive.sum() / max(1, len(positive))
    return Parts(loss + short[active].sum() / active.sum().clamp(min=1), positive, negative)


def triplet(
    level1: Level, level2: Level, xy1: Tensor, xy2: Tensor, *, margin: float, radius: float
) -> Parts:
    """Compute the triplet loss, whose negatives are in both images.

    Args:
        level1, level2: dense maps.
        xy1, xy2: (N, 2) corresponding positions in pixels.
        margin: see above.
        radius: negatives are farther than this from the match along x or y, in pixels.
    """
    first, second = describe(level1, xy1), describe(level2, xy2)
    positive = _squared(first, second)
    nearest = []
    for anchors, level, matches in ((first, level2, xy2), (second, level1, xy1)):
        places = centers(level)
        candidates = describe(level, places)
        apart = (matches[:, None] - places.to(matches.dtype)).abs().amax(dim=2)
        index, exists = hardest(anchors.detach(), candidates.detach(), apart > radius)
        squared = _squared(anchors, candidates[index])
        nearest.append(torch.where(exists, squared, torch.inf))
    negative = torch.minimum(*nearest)
    loss = (margin + positive - negative).clamp(min=0).sum() / max(1, len(positive))
    known = negative.isfinite()
    return Parts(loss, _root(positive), _root(negative[known]))


def hardest(anchors: Tensor, candidates: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Find the most similar candidate of each anchor, the first of several.

    Args:
        anchors, candidates: (N, D) and (M, D) of unit length.
        allowed: (N, M) bool, whether a candidate is a negative.

    Returns:
        (N,) int64 indices of candidates, and (N,) bool: whether there is any.
    """
    similar = torch.where(allowed, anchors @ candidates.T, -torch.inf)
    return similar.argmax(dim=1), allowed.any(dim=1)


def centers_inside(level: Level, size: tuple[int, int]) -> Tensor:
    """Return the (N, 2) centres of a map's cells that are not in the padding, in pixels."""
    places = centers(level)
    inside = ((places >= 0) & (places <= places.new_tensor(size) - 1)).all(dim=1)
    return places[inside]


def _squared(descriptors1: Tensor, descriptors2: Tensor) -> Tensor:
    return 2 - 2 * (descriptors1 * descriptors2).sum(dim=1)


def _root(squared: Tensor) -> Tensor:
    return squared.detach().clamp(min=0).sqrt()


def _mean(parts: Sequence[Tensor]) -> float:
    """Return the mean of all values, and 0 of nothing."""
    values = torch.cat(list(parts))
    return float(values.sum()) / max(1, len(values))
