"""Hardest negatives against a double loop, and losses against the originals' numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from disk_hloc.train.dense import centers, describe
from disk_hloc.train.features import Level
from disk_hloc.train.objectives.hardest import contrastive, hardest, triplet
from support.waves import waves


def level(seed: int, size: tuple[int, int] = (9, 7), channels: int = 4) -> Level:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(channels, size[1], size[0], generator=generator, dtype=torch.float64)
    return Level(values, (4, 4), (1.5, 1.5))


def by_loop(
    anchors: Tensor, one: Level, matches: Tensor, radius: float, every: int, start: tuple[int, int]
) -> list[int]:
    """The distance of the hardest negative of each anchor; infinite without any."""
    _, height, width = one.descriptors.shape
    found = []
    for anchor, match in zip(anchors, matches, strict=True):
        best = math.inf
        for row in range(start[1], height, every):
            for column in range(start[0], width, every):
                x, y = 1.5 + 4 * column, 1.5 + 4 * row
                if (x - match[0]) ** 2 + (y - match[1]) ** 2 < radius**2:
                    continue
                raw = one.descriptors[:, row, column]
                best = min(best, float((anchor - raw / raw.norm()).norm()))
        found.append(best)
    return found


@given(
    seed=st.integers(0, 1000),
    radius=st.sampled_from([0.0, 8.0, 16.0, 100.0]),
    every=st.integers(1, 3),
    data=st.data(),
)
@settings(deadline=None, max_examples=25)
def test_negatives_are_those_of_a_double_loop(
    seed: int, radius: float, every: int, data: st.DataObject
) -> None:
    start = data.draw(st.tuples(*[st.integers(0, every - 1)] * 2))
    one, other = level(seed), level(seed + 1)
    torch.manual_seed(seed)
    xy1, xy2 = (torch.rand(6, 2, dtype=torch.float64) * torch.tensor([34, 26]) for _ in range(2))
    parts = contrastive(one, other, xy1, xy2, margin=0.5, radius=radius, every=every, start=start)
    anchors = describe(one, xy1)
    expected = by_loop(anchors, other, xy2, radius, every, start)
    finite = [distance for distance in expected if math.isfinite(distance)]
    assert parts.negative.tolist() == pytest.approx(finite)
    positive = (anchors - describe(other, xy2)).norm(dim=1)
    active = [0.5 - distance for distance in finite if distance < 0.5]
    loss = float(positive.mean()) + sum(active) / max(1, len(active))
    assert float(parts.loss) == pytest.approx(loss)


def test_the_hardest_is_the_most_similar_that_is_allowed() -> None:
    candidates = torch.eye(3)
    allowed = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])
    anchors = torch.nn.functional.normalize(torch.tensor([[3.0, 2, 1]] * 3), dim=1)
    index, exists = hardest(anchors, candidates, allowed)
    assert index[:2].tolist() == [0, 1]
    assert exists.tolist() == [True, True, False]


def test_the_triplet_loss_is_that_of_the_original() -> None:
    # CFE's copy of D2-Net's loss: maps of 32 x 32 cells of 8 pixels, moved by (9.3, 17) pixels and
    # rounded to cells.
    options = {"dtype": torch.float32}
    maps = [waves(4, 32, 32, phase, **options).requires_grad_() for phase in (0.0, 0.4)]
    first, second = (Level(one, (8, 8), (3.5, 3.5)) for one in maps)
    xy1 = centers(first)
    moved = xy1 + torch.tensor([9.3, 17.0])
    inside = ((moved >= 4) & (moved <= 251)).all(dim=1)
    xy1, xy2 = xy1[inside], ((moved[inside] - 3.5) / 8).round() * 8 + 3.5
    parts = triplet(first, second, xy1, xy2, margin=1, radius=32)
    assert len(xy1) == 870
    assert float(parts.loss.detach()) == pytest.approx(1.9900743961334229, abs=2e-6)
    gradients = torch.autograd.grad(parts.loss, maps)
    assert max(float(one.abs().max()) for one in gradients) == pytest.approx(0.0339690, abs=1e-6)


def test_gradients_pull_matches_together_and_push_negatives_apart() -> None:
    first, second = level(3), level(4)
    descriptors = second.descriptors.clone().requires_grad_()
    second = second._replace(descriptors=descriptors)
    xy = centers(first)[[10, 40]]
    for loss in (
        lambda: contrastive(first, second, xy, xy, margin=2, radius=4, every=1, start=(0, 0)),
        lambda: triplet(first, second, xy, xy, margin=3, radius=4),
    ):
        before = loss()
        (gradient,) = torch.autograd.grad(before.loss, descriptors)
        with torch.no_grad():
            descriptors -= 0.05 * gradient
        assert loss().loss < before.loss


def test_a_pair_without_correspondences_has_no_loss() -> None:
    none = torch.zeros(0, 2, dtype=torch.float64)
    one = level(0)
    parts = contrastive(one, one, none, none, margin=0.5, radius=8, every=2, start=(0, 0))
    assert float(parts.loss) == float(triplet(one, one, none, none, margin=1, radius=8).loss) == 0
