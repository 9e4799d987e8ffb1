"""Maxima of a heatmap, and their refinement."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.models.disk_network.keypoints import (
    find_keypoints,
    find_released_keypoints,
    refine_keypoints,
    sample_keypoints,
)


def paraboloid(x: float, y: float, mixed: float = 0, height: int = 9) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(11), indexing="ij")
    columns, rows = columns - x, rows - y
    return 10 - 0.3 * columns**2 - 0.7 * rows**2 + mixed * columns * rows


@settings(max_examples=50, deadline=None)
@given(x=st.floats(2, 8), y=st.floats(2, 6), mixed=st.floats(-0.25, 0.25))
def test_a_quadratics_peak_is_found_exactly(x: float, y: float, mixed: float) -> None:
    at = torch.tensor([[round(x), round(y)]])
    torch.testing.assert_close(
        refine_keypoints(paraboloid(x, y, mixed), at), torch.tensor([[x, y]]), rtol=0, atol=1e-4
    )


def test_noise_is_averaged_over_the_neighbourhood() -> None:
    # A parabola along each axis, which sees three values, errs by 0.052 px here.
    heatmap = paraboloid(4, 4).repeat(200, 1, 1)
    noise = torch.randn(heatmap.shape, generator=torch.Generator().manual_seed(0))
    moved = [refine_keypoints(each, torch.tensor([[4, 4]])) for each in heatmap + 0.05 * noise]
    assert (torch.cat(moved) - 4).square().mean().sqrt() < 0.04


def test_without_a_peak_of_the_quadratic_each_axis_has_its_parabola() -> None:
    heatmap = torch.zeros(5, 5)
    heatmap[1:4, 1:4] = torch.tensor([[8.0, 0, 0], [1, 9, 0], [0, 0, 8]])
    assert refine_keypoints(heatmap, torch.tensor([[2, 2]])).tolist() == [
        [pytest.approx(2 - 1 / 34), 2]
    ]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_no_maximum_moves_more_than_half_a_pixel(seed: int, size: tuple[int, int]) -> None:
    heatmap = torch.randn(*size, generator=torch.Generator().manual_seed(seed))
    xy, _ = find_keypoints(heatmap, window_size=1, threshold=-10)
    moved = refine_keypoints(heatmap, xy)
    assert moved.dtype == torch.float32
    assert torch.isfinite(moved).all()
    assert ((moved - xy).abs() <= 0.5).all()


def test_a_maximum_at_the_edge_stays_along_that_axis() -> None:
    heatmap = paraboloid(0.3, 3.4)
    assert refine_keypoints(heatmap, torch.tensor([[0, 3]])).tolist() == [[0, pytest.approx(3.4)]]


def test_a_flat_neighbourhood_moves_nothing() -> None:
    assert refine_keypoints(torch.ones(5, 5), torch.tensor([[2, 2]])).tolist() == [[2, 2]]


def test_ties_are_not_maxima() -> None:
    heatmap = torch.zeros(9, 30)
    heatmap[4, 4] = heatmap[4, 5] = 5  # a plateau: neither is greater than the other
    for x, value in ((12, 1.0), (18, 2.0), (24, 1.0)):
        heatmap[4, x] = value
    xy, scores = find_keypoints(heatmap)
    assert xy.tolist() == [[12, 4], [18, 4], [24, 4]]
    assert scores.tolist() == [1.0, 2.0, 1.0]


def released_by_definition(heatmap: torch.Tensor, window: int, n: int | None):
    """A pixel is the first greatest of its window, which ends at the border."""
    height, width = heatmap.shape
    radius = window // 2
    found = []
    for y in range(height):
        for x in range(width):
            rows = range(max(0, y - radius), min(height, y + radius + 1))
            columns = range(max(0, x - radius), min(width, x + radius + 1))
            pixels = [
                (float(heatmap[row, column]), -row, -column) for row in rows for column in columns
            ]
            if max(pixels) == (float(heatmap[y, x]), -y, -x) and heatmap[y, x] > 0:
                found.append((x, y))
    if n is not None and found:
        ranked = sorted((float(heatmap[y, x]) for x, y in found), reverse=True)
        next_one = ranked[min(n, len(ranked) - 1)]
        found = [(x, y) for x, y in found if heatmap[y, x] > next_one]
    return found


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    window=st.sampled_from([1, 3, 5, 7]),
    n=st.sampled_from([None, 0, 1, 3, 1000]),
    levels=st.sampled_from([2, 6, 10**6]),
)
def test_released_maxima_are_those_of_the_definition(seed, size, window, n, levels) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few levels make many ties.
    heatmap = torch.randint(-levels // 2, levels, size, generator=generator).float()
    xy, scores = find_released_keypoints(heatmap, n, window)
    assert [tuple(each) for each in xy.tolist()] == released_by_definition(heatmap, window, n)
    assert torch.equal(scores, heatmap[xy[:, 1], xy[:, 0]])


def test_released_maxima_at_borders_and_ties() -> None:
    heatmap = torch.zeros(9, 30)
    heatmap[0, 0] = 3  # a corner
    heatmap[8, 12] = 2  # an edge
    heatmap[4, 20] = heatmap[4, 21] = heatmap[5, 20] = 5  # a plateau: its first pixel
    assert find_keypoints(heatmap)[0].tolist() == []
    assert find_released_keypoints(heatmap)[0].tolist() == [[0, 0], [20, 4], [12, 8]]
    # Where not more are found than asked for, the weakest goes.
    assert find_released_keypoints(heatmap, 3)[0].tolist() == [[0, 0], [20, 4]]
    assert find_released_keypoints(heatmap, 2)[0].tolist() == [[0, 0], [20, 4]]
    heatmap[0, 0] = 2
    # All that tie with the next one go.
    assert find_released_keypoints(heatmap, 2)[0].tolist() == [[20, 4]]
    assert find_released_keypoints(torch.zeros(3, 3), 2)[0].shape == (0, 2)


def test_sampled_keypoints_follow_the_logits() -> None:
    heatmap = torch.full((16, 24), -30.0)
    heatmap[3, 5] = heatmap[9, 23] = 30
    torch.manual_seed(0)
    xy, scores = sample_keypoints(heatmap)
    assert xy.tolist() == [[5, 3], [23, 9]]
    assert scores.tolist() == [pytest.approx(0, abs=1e-6)] * 2
    drawn = [sample_keypoints(torch.zeros(64, 64)) for _ in range(50)]
    # Any of 64 pixels, accepted with probability 1/2.
    for _, scores in drawn:
        torch.testing.assert_close(scores, torch.full_like(scores, -torch.tensor(128.0).log()))
    places = torch.cat([xy for xy, _ in drawn])
    assert 1450 < len(places) < 1750
    assert (places.float().mean(dim=0) - 31.5).abs().max() < 2
