"""Validation: evaluating matches and the poses estimated from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from disk_hloc.io.training.dataset import read_training_set
from disk_hloc.train.data import Batch, load
from disk_hloc.train.features import Features
from disk_hloc.train.figures import FAILED_ERRORS_DEGREES, pose_figures
from disk_hloc.train.geometry import View, transfer
from disk_hloc.train.settings import settings
from disk_hloc.train.validation import detector, match_pair, validate

CONF = settings()


@pytest.fixture(scope="module")
def batch(training_set: Path) -> Batch:
    return load(read_training_set(training_set), [(0, 0)], (256, 192), "cv2_linear")


def corresponding(view1: View, view2: View, wrong: int = 0) -> tuple[Features, Features]:
    """Features at corresponding pixels with equal descriptors; the first ones are moved."""
    y, x = torch.meshgrid(torch.arange(4, 190, 9), torch.arange(4, 250, 9), indexing="ij")
    xy1 = torch.stack([x.flatten(), y.flatten()], dim=1)
    exact = transfer(xy1.double(), view1, view2)
    xy2 = exact.round().nan_to_num(-1).long()
    seen = ((xy2 >= 0) & (xy2 < torch.tensor([256, 192]))).all(dim=1)
    xy1, xy2, exact = xy1[seen], xy2[seen], exact[seen]
    back = transfer(xy2.double(), view2, view1)
    same = ((back - xy1).norm(dim=1) < 1.2) & ((exact - xy2).norm(dim=1) < 1.2)
    xy1, xy2 = xy1[same], xy2[same].clone()
    xy2[:wrong] += torch.tensor([0, 40])
    code = torch.nn.functional.normalize(
        torch.randn(len(xy1), 16, generator=torch.Generator().manual_seed(0)), dim=1
    )
    score = torch.zeros(len(xy1))
    return Features(xy1, score, code), Features(xy2, score, code)


def test_true_matches_give_the_pose_and_wrong_ones_are_counted(batch: Batch) -> None:
    views = batch.views[0]
    first, second = corresponding(*views, wrong=20)
    (figures,), ((match,),) = validate([first, second], batch, CONF)
    count = len(first.xy)
    assert count > 150
    assert (figures.n_kps, figures.n_pairs) == (2 * count, count)
    assert match.indices.tolist() == [[i, i] for i in range(count)]
    assert figures.fp == 20
    assert figures.tp == count - 20
    assert figures.precision == pytest.approx((count - 20) / (count + 1))
    assert figures.reward == pytest.approx(count - 20 - 0.25 * 20 - 0.01 * 2 * count)
    # Keypoints are at whole pixels of a photo of 256 x 192.
    assert figures.rotation_error < 0.7
    assert figures.translation_error < 5
    assert figures.n_inliers >= 0.8 * (count - 20)
    assert figures.success == 1


def test_errors_are_the_distances_from_epipolar_lines(batch: Batch) -> None:
    first, second = corresponding(*batch.views[0], wrong=5)
    match = match_pair(first, second, *batch.views[0])
    assert match.error[5:].max() < 1.2
    assert match.error[:5].min() > 10


def test_too_few_matches_have_no_pose(batch: Batch) -> None:
    few = np.random.default_rng(0).random((9, 2)) * 100
    assert pose_figures(few, few, *batch.views[0], 1.0, 100) == (*FAILED_ERRORS_DEGREES, 0, 0)


def test_a_pair_without_keypoints_fails_without_an_error(batch: Batch) -> None:
    none = Features(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 16))
    (figures,), _ = validate([none, none], batch, CONF)
    assert figures == (0, 0, 0, 0, 0, 0, *FAILED_ERRORS_DEGREES, 0, 0)


def test_the_sign_of_the_translation_counts(batch: Batch) -> None:
    view1, view2 = batch.views[0]
    first, second = corresponding(view1, view2)
    found = pose_figures(
        first.xy.double().numpy(), second.xy.double().numpy(), view1, view2, 1, 999
    )
    centre = view2.rotation.T @ view2.translation
    turned_round = View(
        view2.matrix,
        view2.rotation,
        view2.rotation @ (2 * view1.rotation.T @ view1.translation - centre),
    )
    opposite = pose_figures(
        first.xy.double().numpy(), second.xy.double().numpy(), view1, turned_round, 1, 999
    )
    assert opposite[1] == pytest.approx(180 - found[1], abs=1e-6)


def test_keypoints_are_the_maxima_of_the_release() -> None:
    heatmap = torch.full((9, 9), -1.0)
    heatmap[0, 0], heatmap[4, 4], heatmap[4, 5] = 1, 3, 2

    def found(**changes: object) -> list[list[int]]:
        xy: Tensor = detector(CONF["validation"] | changes)(heatmap)[0]
        return xy.tolist()

    assert found() == [[0, 0], [4, 4]]
    assert found(max_keypoints=1) == [[4, 4]]
    assert found(nms_window_size=1) == [[0, 0], [4, 4], [5, 4]]
