"""DISK's matcher: against its definition, and against what DISK's release wrote."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.models import nearest
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.nearest import match, match_together


def descriptors(count: int, seed: int, dim: int = 128) -> torch.Tensor:
    values = torch.randn(dim, count, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=0)


def by_definition(d0: np.ndarray, d1: np.ndarray, ratio: float | None, limit: float | None):
    """Mutual nearest neighbours in float64, point by point, from distances."""
    distance = np.sqrt(np.maximum(2 - 2 * d0.T @ d1, 0))
    matches = np.full(d0.shape[1], -1)
    for i in range(d0.shape[1]):
        j = distance[i].argmin()
        if distance[:, j].argmin() != i:
            continue
        second = np.sort(distance[i])[1], np.sort(distance[:, j])[1]
        if ratio is not None and not all(distance[i, j] < ratio * other for other in second):
            continue
        if limit is not None and distance[i, j] > limit:
            continue
        matches[i] = j
    return matches


@settings(max_examples=60, deadline=None)
@given(
    count0=st.integers(2, 60),
    count1=st.integers(2, 60),
    ratio=st.sampled_from([None, 0.8, 0.95, 1.0]),
    limit=st.sampled_from([None, 0.7, 1.2]),
    block=st.sampled_from([1, 40, 1 << 26]),
    seed=st.integers(0, 2**31),
)
def test_matches_are_those_of_the_definition(count0, count1, ratio, limit, block, seed) -> None:
    d0, d1 = descriptors(count0, seed, dim=8), descriptors(count1, seed + 1, dim=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK_ELEMENTS", {"cpu": block})
        patch.setattr(nearest, "MIN_ROWS", 1)
        matches, scores = match(d0.double(), d1.double(), ratio, limit)
    expected = by_definition(d0.double().numpy(), d1.double().numpy(), ratio, limit)
    np.testing.assert_array_equal(matches.numpy(), expected)
    assert ((scores > 0) == (matches >= 0)).all()


@pytest.mark.parametrize("ratio", [None, 1.1])
def test_equal_descriptors_are_matched_once_to_the_first(ratio) -> None:
    d0, d1 = descriptors(6, 0), descriptors(5, 1)
    d0[:, 4] = d0[:, 2] = d1[:, 1]
    d1[:, 3] = d0[:, 0]
    matches = match(d0, d1, ratio)[0].tolist()
    assert matches[0] == 3
    assert matches[2] == 1
    assert matches[4] == -1
    matched = [j for j in matches if j >= 0]
    assert len(matched) == len(set(matched))


def test_released_matches_are_reproduced_exactly(data: Path) -> None:
    """What match.py --rt 0.95 --save-threshold 100 wrote, from the same descriptors."""
    folder = data / "disk_official" / "sacre_coeur_768x1024_n2048"
    compared = 0
    with (
        h5py.File(folder / "descriptors.h5") as file,
        h5py.File(folder / "matches.h5") as released,
    ):
        for name0, name1 in combinations(sorted(file), 2):
            d0, d1 = (torch.from_numpy(file[name][()]).T for name in (name0, name1))
            matches = match(d0, d1, ratio_threshold=0.95)[0].numpy()
            index = np.flatnonzero(matches >= 0)
            if name1 not in released[name0]:
                assert len(index) < 100
                continue
            expected = released[name0][name1][()]
            expected = expected[:, np.argsort(expected[0])]
            np.testing.assert_array_equal(np.stack([index, matches[index]]), expected)
            compared += 1
    assert compared == 37


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (5, 0), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("ratio", [None, 0.9])
def test_zero_or_one_descriptor_gives_no_match(counts, ratio) -> None:
    matches, scores = match(descriptors(counts[0], 0), descriptors(counts[1], 1), ratio)
    assert matches.tolist() == [-1] * counts[0]
    assert scores.tolist() == [0] * counts[0]


def test_module_takes_a_batch_and_its_conf() -> None:
    d0, d1 = descriptors(20, 0), descriptors(30, 1)
    d1[:, 7] = d0[:, 3]
    model = NearestNeighbors({"distance_threshold": 0.1})
    prediction = model({"descriptors0": d0[None], "descriptors1": d1[None]})
    assert prediction["matches0"].shape == (1, 20)
    assert prediction["matches0"][0, 3] == 7
    assert (prediction["matches0"] >= 0).sum() == 1
    assert prediction["matching_scores0"][0, 3] == pytest.approx(1, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.integers(1, 5),
    count0=st.integers(0, 40),
    count1=st.integers(0, 40),
    ratio=st.sampled_from([None, 0.8, 0.95, 1.0]),
    limit=st.sampled_from([None, 0.7, 1.2]),
    block=st.sampled_from([1, 2000, 1 << 26]),
    repeated=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_pairs_at_once_are_matched_as_each_alone(
    pairs, count0, count1, ratio, limit, block, repeated, seed
) -> None:
    # Of few numbers, so that a product is the same whatever the order of its sums, and ties abound.
    generator = torch.Generator().manual_seed(seed)
    d0, d1 = (
        torch.randint(-1, 2, (pairs, 8, count), generator=generator) / 4
        if repeated
        else torch.nn.functional.normalize(torch.randn(pairs, 8, count, generator=generator), dim=1)
        for count in (count0, count1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nearest.BLOCK_ELEMENTS, "cuda", block)
        matches, scores = match_together(d0, d1, ratio, limit)
    for i in range(pairs):
        expected, expected_scores = match(d0[i], d1[i], ratio, limit)
        if not repeated:
            assert torch.equal(matches[i], expected)
            torch.testing.assert_close(scores[i], expected_scores)
            continue
        # Which of equal neighbours is taken is nobody's business, as long as they are equal.
        kept = torch.arange(count0)[matches[i] >= 0]
        assert matches[i][kept].unique().numel() == len(kept)
        both = kept[expected[kept] >= 0]
        cosines = d0[i].T @ d1[i]
        assert torch.equal(cosines[both, matches[i][both]], cosines[both, expected[both]])
