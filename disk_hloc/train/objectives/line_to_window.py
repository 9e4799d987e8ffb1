"""Descriptors from poses alone: a search along epipolar lines, then in a window.

The first stage of PoSFeat (Li, Wang, Liu, Ran, Xu, Guo, "Decoupling makes weakly supervised local
feature better", CVPR 2022, section 3.2; the loss is that of CAPS, Wang, Zhou, Hariharan, Snavely,
ECCV 2020). A position of one image is described. Along its epipolar line in the other image the
most similar descriptor is found. In a window near it, a softmax of similarities gives the expected
position of the match and its spread. The loss is the distance of the expected position from the
line; positions that are spread less weigh more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk_hloc.confs import Conf

from ..correspondences import one_of_each_cell
from ..data import Batch
from ..dense import describe, sample
from ..features import Level
from ..geometry import View, fundamental_matrix
from .dense_pairs import Seen, backward_dense_pairs

# The centroid of a distribution on one point has no spread; both bounds are those of the release.
_LEAST_VARIANCE, _LEAST_SPREAD = 1e-10, 1e-10
# A window on a tiny map still has neighbours to choose from.
_LEAST_SAMPLES = 3


class LineToWindowFigures(NamedTuple):
    """Figures of a pair of images.

    Attributes:
        loss: weighted mean distance from epipolar lines in pixels, the sum of both directions.
        share: share of the positions that count.
    """

    loss: float
    share: float


def objective(
    settings: Conf, network: nn.Module, batch: Batch, epoch: int
) -> tuple[Tensor, list[LineToWindowFigures]]:
    """Differentiate the distances from epipolar lines, in both directions of all pairs."""
    return backward_dense_pairs(network, batch, partial(_of_pair, settings["line_to_window"]))


def _of_pair(
    conf: Mapping[str, Any], first: Seen, second: Seen
) -> tuple[Tensor, LineToWindowFigures]:
    total: Tensor | float = 0.0
    shares = []
    for one, other in ((first, second), (second, first)):
        for level, other_level in zip(one.levels, other.levels, strict=True):
            device = level.descriptors.device
            xy = one_of_each_cell(one.size, conf["spacing"], device)
            jitter = 2 * torch.rand(len(xy), 2, device=device) - 1
            lines = epipolar_lines(xy, one.view, other.view)
            loss, share = distance_from_lines(
                level, other_level, xy, lines, other.size, jitter, conf
            )
            total = total + loss
            shares.append(share)
    assert isinstance(total, Tensor)
    return total, LineToWindowFigures(float(total.detach()), sum(shares) / len(shares))


def epipolar_lines(xy: Tensor, view1: View, view2: View) -> Tensor:
    """Return the (N, 3) lines a x + b y + c = 0 in the second image of (N, 2) pixels of the first.

    (a, b) has unit length; lines of two cameras at one place are 0.
    """
    lines = F.pad(xy.double(), (0, 1), value=1.0) @ fundamental_matrix(view1, view2).T
    return (lines / lines[:, :2].norm(dim=1, keepdim=True).clamp(min=1e-300)).to(xy.dtype)


def distance_from_lines(
    level1: Level,
    level2: Level,
    xy: Tensor,
    lines: Tensor,
    size2: tuple[int, int],
    jitter: Tensor,
    conf: Mapping[str, Any],
) -> tuple[Tensor, float]:
    """Return the weighted mean distance of expected positions from epipolar lines.

    Args:
        level1, level2: dense maps of both images.
        xy: (N, 2) positions of the first image in pixels.
        lines: (N, 3) their epipolar lines in the second image, of unit normals.
        size2: width and height of the second image in pixels.
        jitter: (N, 2) from -1 to 1, by which windows are moved away from the best positions; 1 is
            ``jitter`` of the window's half side.
        conf: the settings' ``line_to_window``.

    Returns:
        () pixels, and the share of the positions that count: whose line crosses the image, whose
        window's centre is in it, and whose distance is not too large. 0 without any.
    """
    half = xy.new_tensor([(side - 1) / 2 for side in size2])
    start, stop = endpoints(lines, size2)
    crossing = start.isfinite().all(dim=1)
    # As in the release, maps of unit vectors are interpolated without normalizing again.
    unit2 = F.normalize(level2.descriptors, dim=0)
    queries = describe(level1, xy, "zeros")
    with torch.no_grad():
        steps = torch.linspace(0, 1, conf["line_samples"], dtype=xy.dtype, device=xy.device)
        along = start[:, None] + (stop - start)[:, None] * steps[:, None]
        along = torch.where(crossing[:, None, None], along, 0)
        similar = (sample(level2, unit2, along) @ queries[:, :, None])[:, :, 0]
        best = along[torch.arange(len(along), device=xy.device), similar.argmax(dim=1)]
        center = best + conf["jitter"] * conf["window"] * half * jitter
        kept = crossing & ((center >= 0) & (center <= 2 * half)).all(dim=1)
    queries, center, lines = queries[kept], center[kept], lines[kept]
    height, width = unit2.shape[1:]
    across, down = (
        torch.linspace(
            -conf["window"],
            conf["window"],
            max(_LEAST_SAMPLES, int(conf["window"] * cells)),
            dtype=xy.dtype,
            device=xy.device,
        )
        for cells in (width, height)
    )
    offset = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).flatten(0, 1)
    around = center[:, None] + half * offset
    similar = (sample(level2, unit2, around, "zeros") @ queries[:, :, None])[:, :, 0]
    chance = (conf["inverse_temperature"] * similar).softmax(dim=1)[:, :, None]
    expected = (chance * around).sum(dim=1)
    distance = (F.pad(expected, (0, 1), value=1.0) * lines).sum(dim=1).abs()
    with torch.no_grad():
        # In halves of the image's sides, which the sum over x and y weighs alike.
        relative, mean = around / half - 1, expected / half - 1
        variance = (chance * relative.square()).sum(dim=1) - mean.square()
        spread = variance.clamp(min=_LEAST_VARIANCE).sqrt().sum(dim=1)
        near = distance < conf["max_distance"] * min(size2)
        weight = near / spread.clamp(min=_LEAST_SPREAD)
        share = float(near.sum()) / max(1, len(xy))
    tiny = torch.finfo(weight.dtype).tiny
    return (weight * distance).sum() / weight.sum().clamp(min=tiny), share


@torch.no_grad()
def endpoints(lines: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return where lines enter and leave an image.

    Args:
        lines: (N, 3) a x + b y + c = 0.
        size: width and height of the image in pixels.

    Returns:
        (N, 2) and (N, 2) positions on the outermost pixels, NaN for a line that does not cross
        exactly two sides.
    """
    a, b, c = lines.unbind(dim=1)
    right, bottom = size[0] - 1, size[1] - 1
    crossings = torch.stack(
        [
            torch.stack([torch.zeros_like(a), -c / b], dim=1),
            torch.stack([torch.full_like(a, right), -(a * right + c) / b], dim=1),
            torch.stack([-(b * bottom + c) / a, torch.full_like(a, bottom)], dim=1),
            torch.stack([-c / a, torch.zeros_like(a)], dim=1),
        ],
        dim=1,
    )
    inside = ((crossings >= 0) & (crossings <= crossings.new_tensor([right, bottom]))).all(dim=2)
    two = inside.sum(dim=1) == 2
    # The first two sides that are crossed, in the order above.
    order = (~inside).to(torch.uint8).argsort(dim=1, stable=True)[:, :2, None].expand(-1, -1, 2)
    found = torch.where(two[:, None, None], crossings.gather(1, order), torch.nan)
    return found[:, 0], found[:, 1]
