"""The share of random positions that descriptors find again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from disk_hloc.eval import descriptors


def test_share_correct_by_hand() -> None:
    """Of four, two are their own nearest, one takes its neighbour, one a position far off."""
    descriptors1 = np.eye(4)
    descriptors0 = np.eye(4)[:, [0, 0, 2, 0]]
    positions = np.array([[0.0, 0], [3, 4], [50, 50], [90, 90]])
    found = descriptors.share_correct(descriptors0, descriptors1, positions)
    assert found == pytest.approx(3 / 4)
    assert descriptors.share_correct(
        descriptors0, descriptors1, positions, within=4.9
    ) == pytest.approx(2 / 4)
    assert np.isnan(descriptors.share_correct(np.zeros((4, 0)), np.zeros((4, 0)), np.zeros((0, 2))))


def test_share_correct_against_opencvs_matcher() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(8, 300)).astype(np.float32)
    second = first + rng.normal(0, 0.7, size=(8, 300)).astype(np.float32)
    first, second = (one / np.linalg.norm(one, axis=0) for one in (first, second))
    positions = np.random.default_rng(0).uniform((0, 0), (200, 100), (300, 2))
    matches = cv2.BFMatcher().match(first.T.copy(), second.T.copy())
    off = [np.linalg.norm(positions[m.trainIdx] - positions[m.queryIdx]) for m in matches]
    found = descriptors.share_correct(first, second, positions)
    assert found == pytest.approx((np.array(off) <= 5).mean())
    assert 0.1 < found < 0.9
