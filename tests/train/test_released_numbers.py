"""Sampling, matching, rewards and loss, compared with numbers computed by DISK's release."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.train.estimator import pair_loss
from disk_hloc.train.features import Features
from disk_hloc.train.geometry import View, epipolar_distances, transfer
from disk_hloc.train.matching import match_log_probabilities, mutual_nearest
from disk_hloc.train.rewards import depth_reward, epipolar_reward

BAD = -0.25
REWARDS = {"threshold": 1.5, "true_positive": 1.0, "false_positive": BAD}
XY1 = torch.tensor([[24.0, 12], [40, 30], [55, 40], [3, 20], [30, 5], [50, 10]])
XY2 = torch.tensor([[2.0, 16], [20, 34], [36, 44], [35, 15], [60, 2], [12, 9]])


def rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def view(matrix: list[list[float]], turned: np.ndarray, translation: list[float]) -> View:
    """A camera that sees the plane z = 4 + 0.2 x, 64 x 48 pixels."""
    k, t = np.array(matrix), np.array(translation)
    y, x = np.mgrid[:48, :64]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(k).T @ turned
    normal = np.array([-0.2, 0, 1])
    depth = (4 + turned.T @ t @ normal) / (rays @ normal)
    return View(*(torch.from_numpy(one).float() for one in (k, turned, t, depth)))


@pytest.fixture(scope="module")
def views() -> tuple[View, View]:
    first = view(
        [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], rotation((0, 1, 0), 0.05), [0.1, 0, 0.2]
    )
    second = view(
        [[64, 0, 30], [0, 62, 25], [0, 0, 1]], rotation((0.2, 1, 0.1), -0.12), [-0.5, 0.1, 0.3]
    )
    assert first.depth is not None
    assert second.depth is not None
    first.depth[:, :6] = torch.nan
    second.depth[10:20, 30:40] = torch.nan
    return first, second


def table(default: float, entries: dict[tuple[int, int], float]) -> Tensor:
    values = torch.full((6, 6), default)
    for (i, j), value in entries.items():
        values[i, j] = value
    return values


def test_rewards_by_depth(views: tuple[View, View]) -> None:
    # No depth at (3, .) and (., 3); (4, 5) is on the epipolar line, but not at the point.
    good = {(0, 0): 1.0, (1, 1): 1.0, (2, 2): 1.0}
    unknown = {(3, 3): 0.0, (4, 5): 0.0, (5, 3): 0.0}
    assert torch.equal(depth_reward(XY1, XY2, *views, **REWARDS), table(BAD, good | unknown))


def test_a_point_that_is_hidden_in_one_image_is_unknown(views: tuple[View, View]) -> None:
    # Seen in the first image, but hidden in the second by something on the same epipolar line,
    # and the other way around.
    for which, (x, y) in enumerate((XY1[0].long().tolist(), XY2[0].long().tolist())):
        depths = [view.depth.clone() for view in views]
        depths[which][y, x] /= 2
        hidden = [replace(view, depth=depth) for view, depth in zip(views, depths, strict=True)]
        assert float(depth_reward(XY1[:1], XY2[:1], *views, **REWARDS)) == 1
        assert float(depth_reward(XY1[:1], XY2[:1], *hidden, **REWARDS)) == 0


def test_rewards_by_epipolar_geometry(views: tuple[View, View]) -> None:
    good = dict.fromkeys([(0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (5, 3)], 1.0)
    assert torch.equal(epipolar_reward(XY1, XY2, *views, **REWARDS), table(BAD, good))


def test_transfer_by_depth(views: tuple[View, View]) -> None:
    expected = torch.tensor(
        [
            [2.1719925, 16.0883846],
            [20.1293278, 34.3060646],
            [35.7308617, 43.5051956],
            [torch.nan, torch.nan],
            [8.9782143, 9.0159445],
            [30.2967129, 14.4263906],
        ]
    )
    found = transfer(XY1, *views)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5, equal_nan=True)


def test_distances_from_epipolar_lines(views: tuple[View, View]) -> None:
    first, second = epipolar_distances(XY1, XY2, *views)
    expected1 = [0.1148281, 19.4493809, 30.2605515, 4.7203712, 2.1052752, 4.6669693]
    expected2 = [0.1202393, 21.0455780, 33.9749298, 5.3370838, 2.5357599, 5.0347891]
    torch.testing.assert_close(first[0], torch.tensor(expected1), rtol=0, atol=3e-5)
    torch.testing.assert_close(second[0], torch.tensor(expected2), rtol=0, atol=3e-5)


def test_points_behind_the_second_camera_are_nowhere() -> None:
    ahead = View(torch.eye(3), torch.eye(3), torch.zeros(3), torch.ones(4, 4))
    facing_away = View(torch.eye(3), torch.diag(torch.tensor([1.0, -1, -1])), torch.zeros(3))
    assert transfer(torch.tensor([[1.0, 1.0]]), ahead, facing_away).isnan().all()


def test_sampling() -> None:
    heatmap = (torch.arange(16 * 16).reshape(16, 16) * 37 % 101).float() / 20 - 2.5
    torch.manual_seed(7)
    xy, log_probability = sample_keypoints(heatmap)
    assert xy.tolist() == [[2, 6], [12, 3], [4, 11]]
    expected = torch.tensor([-2.9924657, -2.7628300, -2.9378402])
    torch.testing.assert_close(log_probability, expected, rtol=0, atol=1e-6)


@pytest.fixture
def descriptors() -> tuple[Tensor, Tensor]:
    a = torch.arange(12.0).reshape(3, 4)
    b = torch.arange(16.0).reshape(4, 4)
    raw = (a * 7 % 5) - 2 + 0.1 * a, (b * 3 % 7) - 3 + 0.05 * b
    first, second = (torch.nn.functional.normalize(one, dim=1) for one in raw)
    return first, second


def test_match_distribution(descriptors: tuple[Tensor, Tensor]) -> None:
    forth, back = match_log_probabilities(*descriptors, 5.0)
    expected = [
        [9.9713755e-01, 6.0368329e-04, 1.0961847e-06, 2.8804966e-06],
        [4.4939923e-05, 1.1501897e-01, 4.4558351e-03, 5.2139908e-04],
        [5.5686064e-07, 1.5411526e-05, 7.3004800e-01, 2.5713554e-01],
    ]
    torch.testing.assert_close((forth + back).exp(), torch.tensor(expected), rtol=1e-4, atol=1e-9)


def test_mutual_nearest(descriptors: tuple[Tensor, Tensor]) -> None:
    assert mutual_nearest(*descriptors).tolist() == [[0, 0], [2, 2]]
    assert mutual_nearest(descriptors[0][:0], descriptors[1]).shape == (0, 2)


def test_gradients_with_the_papers_credit(descriptors: tuple[Tensor, Tensor]) -> None:
    rewards = torch.tensor([[1, BAD, 0, 0], [0, 1, BAD, 0], [BAD, 0, 0, 1]])
    first, second = (
        Features(
            torch.zeros(len(one), 2),
            (-1.0 - torch.arange(len(one))).requires_grad_(),
            one.clone().requires_grad_(),
        )
        for one in descriptors
    )
    loss, figures = pair_loss(
        first, second, rewards, inverse_temperature=5.0, keypoint_penalty=-0.01, credit="own"
    )
    loss.backward()
    for found, expected in (
        (first.score.grad, [-0.98698664, -0.10390501, -0.24713539]),
        (second.score.grad, [-0.98713744, -0.10486805, 0.01111396, -0.24713553]),
        (
            first.descriptors.grad,
            [
                [0.31260660, -0.09339754, -0.13737279, -0.08528533],
                [-0.30428779, 0.42699218, -0.19151856, 0.47416359],
                [0.96011406, 1.17231226, 0.89432895, 1.10281289],
            ],
        ),
    ):
        # The square root of two in the release has six digits.
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)
    # The release logs the penalty for other numbers of keypoints than those of the pair.
    assert figures.n_keypoints == 7
