"""The search along a line and in a window, compared with numbers computed by PoSFeat's code."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from disk_hloc.train.features import Level
from disk_hloc.train.geometry import View
from disk_hloc.train.objectives.line_to_window import (
    distance_from_lines,
    endpoints,
    epipolar_lines,
)
from disk_hloc.train.settings import settings
from support.waves import waves

SIZE = (128, 96)
MAP = (32, 24)
DOUBLE = {"dtype": torch.float64}
# The map is too small for the window of the release, a tenth of its sides.
CONF = settings()["line_to_window"] | {"window": 0.2}


def views() -> tuple[View, View]:
    matrix = torch.tensor([[120, 0, 63.5], [0, 120, 47.5], [0, 0, 1]], **DOUBLE)
    cosine, sine = math.cos(0.1), math.sin(0.1)
    turned = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], **DOUBLE)
    moved = torch.tensor([-0.8, 0.1, 0.2], **DOUBLE)
    ahead = View(matrix, torch.eye(3, **DOUBLE), torch.zeros(3, **DOUBLE))
    return ahead, View(matrix, turned, moved)


def level(phase: float) -> Level:
    """A map that is read where PoSFeat reads it."""
    cell = tuple((side - 1) / cells for side, cells in zip(SIZE, MAP, strict=True))
    values = waves(6, MAP[1], MAP[0], phase, **DOUBLE).requires_grad_()
    return Level(values, (cell[0], cell[1]), (cell[0] / 2, cell[1] / 2))


def positions() -> tuple[Tensor, Tensor, Tensor]:
    """Positions in both images, and jitter."""
    i = torch.arange(12, **DOUBLE)
    first = torch.stack([5 + 10 * i, (9 + 37 * i) % 96], dim=1)
    second = torch.stack([(11 + 53 * i) % 128, 4 + 7 * i], dim=1)
    return first, second, torch.stack([torch.sin(i), torch.cos(2 * i)], dim=1)


def test_loss_and_gradient_are_those_of_the_release() -> None:
    first, second = level(0.0), level(0.4)
    view1, view2 = views()
    xy1, xy2, jitter = positions()
    there, share = distance_from_lines(
        first, second, xy1, epipolar_lines(xy1, view1, view2), SIZE, jitter, CONF
    )
    back, other_share = distance_from_lines(
        second, first, xy2, epipolar_lines(xy2, view2, view1), SIZE, -jitter, CONF
    )
    assert float(there.detach()) == pytest.approx(2.365715980714035, abs=1e-6)
    assert float(back.detach()) == pytest.approx(2.7839051392161553, abs=1e-6)
    assert (share + other_share) / 2 == pytest.approx(10 / 12)
    gradients = torch.autograd.grad(there + back, [first.descriptors, second.descriptors])
    norms = [float(one.norm()) for one in gradients]
    assert norms == pytest.approx([0.09929155030937656, 0.10593398446530608], abs=1e-6)
    assert gradients[0][2, 10, ::8].tolist() == pytest.approx(
        [0.0, 0.0, 0.0026666664534862263, -0.00016276378961688502], abs=1e-7
    )


def test_the_middle_of_a_window_on_the_line_has_no_loss() -> None:
    one = level(0.0)
    ahead, other = views()
    xy, _, jitter = positions()
    lines = epipolar_lines(xy, ahead, other)
    no_choice = CONF | {"inverse_temperature": 0}
    still = torch.zeros_like(jitter)
    loss, share = distance_from_lines(one, one, xy, lines, SIZE, still, no_choice)
    assert share > 0.9
    assert float(loss.detach()) == pytest.approx(0, abs=1e-9)
    loss, _ = distance_from_lines(one, one, xy, lines, SIZE, jitter, no_choice)
    assert float(loss) > 1


def test_lines_that_miss_the_image_do_not_count() -> None:
    one = level(0.0)
    outside = torch.tensor([[0.0, 1, 50]], **DOUBLE)  # y = -50
    still = torch.zeros(1, 2, **DOUBLE)
    loss, share = distance_from_lines(
        one, one, torch.tensor([[5.0, 5]], **DOUBLE), outside, SIZE, still, CONF
    )
    assert share == 0
    assert float(loss.detach()) == 0
    (gradient,) = torch.autograd.grad(loss, one.descriptors, allow_unused=True)
    assert gradient is None or not gradient.any()


@given(
    angle=st.floats(0.01, 3.13).filter(lambda a: abs(a - math.pi / 2) > 0.01),
    x=st.floats(1, 126),
    y=st.floats(1, 94),
)
def test_endpoints_are_on_the_line_and_on_the_border(angle: float, x: float, y: float) -> None:
    a, b = math.sin(angle), math.cos(angle)
    lines = torch.tensor([[a, b, -a * x - b * y]], **DOUBLE)
    ends = torch.cat(endpoints(lines, SIZE))
    if ends.isnan().any():  # through a corner
        return
    assert (ends @ lines[0, :2] + lines[0, 2]).abs().max() < 1e-9
    last = torch.tensor(SIZE, **DOUBLE) - 1
    assert ((ends.abs() < 1e-9) | ((ends - last).abs() < 1e-9)).any(dim=1).all()
    assert (ends[0] - ends[1]).norm() > 0
