"""The targets of attention, and its loss, compared with numbers computed by CFE's code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disk_hloc.train.dense import centers, describe
from disk_hloc.train.features import Level
from disk_hloc.train.objectives.attention import distinctive, distinctiveness, peakiness
from support.waves import waves

CFE = {"margin": 1.0, "tau": 0.25}


@pytest.fixture
def pair() -> tuple[Level, Level, Tensor, Tensor]:
    """Maps of 32 x 32 cells of 8 pixels, moved by (9.3, 17) pixels and rounded to cells."""
    options = {"dtype": torch.float32}
    first, second = (
        Level(
            waves(4, 32, 32, phase, **options),
            (8, 8),
            (3.5, 3.5),
            (waves(1, 32, 32, other, **options)[0] / 4 + 0.5).requires_grad_(),
        )
        for phase, other in ((0.0, 0.1), (0.4, 0.7))
    )
    xy1 = centers(first)
    moved = xy1 + torch.tensor([9.3, 17.0])
    inside = ((moved >= 4) & (moved <= 251)).all(dim=1)
    return first, second, xy1[inside], ((moved[inside] - 3.5) / 8).round() * 8 + 3.5


def test_the_loss_is_that_of_the_original(pair: tuple[Level, Level, Tensor, Tensor]) -> None:
    first, second, _, _ = pair
    loss = distinctiveness(*pair, **CFE).detach()
    assert float(loss) == pytest.approx(0.6184334754943848, abs=1e-6)
    with torch.no_grad():
        peaks = [float(peakiness(one.scores, 2)) for one in (first, second)]
    assert peaks == pytest.approx([0.8572338223457336, 0.8572973012924194], abs=1e-6)


def test_the_target_counts_descriptors_by_their_distance(
    pair: tuple[Level, Level, Tensor, Tensor],
) -> None:
    first, second, xy1, _ = pair
    found = distinctive(describe(first, xy1[:20]), second, **CFE)
    everywhere = describe(second, centers(second))
    for anchor, target in zip(describe(first, xy1[:20]), found.tolist(), strict=True):
        near = sum(float((anchor - one).norm()) < 1 for one in everywhere)
        assert target == pytest.approx((1 + near) ** -0.25)
    # As CFE's code computes them.
    assert found[:3].tolist() == pytest.approx(
        [0.240081325173378, 0.24108882248401642, 0.2402811348438263], abs=1e-6
    )


def test_the_attention_alone_gets_a_gradient(pair: tuple[Level, Level, Tensor, Tensor]) -> None:
    first, second, xy1, xy2 = pair
    first = first._replace(descriptors=first.descriptors.requires_grad_())
    loss = distinctiveness(first, second, xy1, xy2, **CFE) + peakiness(first.scores, 2)
    loss.backward()
    assert first.descriptors.grad is None
    assert first.scores.grad.any()


def test_peaks_are_better_than_a_plain() -> None:
    flat = torch.full((16, 16), 0.5)
    peaks = torch.zeros(16, 16)
    peaks[2::5, 2::5] = 9
    assert float(peakiness(peaks, 4)) < float(peakiness(flat, 4))
    assert float(peakiness(1e3 * peaks, 4)) == 0
