"""Policy gradient with PoSFeat's settings, compared with numbers computed by PoSFeat's code."""

from __future__ import annotations

import math

import pytest
import torch

from disk_hloc.train.dense import describe
from disk_hloc.train.estimator import pair_loss
from disk_hloc.train.features import Features, Level
from disk_hloc.train.geometry import View
from disk_hloc.train.objectives.policy import loss_of, reward_of
from disk_hloc.train.rewards import epipolar_reward
from disk_hloc.train.settings import settings
from support.waves import waves

DOUBLE = {"dtype": torch.float64}


def test_the_loss_is_posfeats_where_all_proposals_are_accepted() -> None:
    cosine, sine = math.cos(0.1), math.sin(0.1)
    matrix = torch.tensor([[120, 0, 63.5], [0, 120, 47.5], [0, 0, 1]], **DOUBLE)
    turned = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], **DOUBLE)
    view1 = View(matrix, torch.eye(3, **DOUBLE), torch.zeros(3, **DOUBLE))
    view2 = View(matrix, turned, torch.tensor([-0.8, 0.1, 0.2], **DOUBLE))
    i = torch.arange(12, **DOUBLE)
    places = (
        torch.stack([(7 * i) % 128, (5 + 11 * i) % 96], dim=1),
        torch.stack([(3 + 17 * i) % 128, (9 + 5 * i) % 96], dim=1),
    )
    scores = (-1 - 0.1 * i).requires_grad_(), (-2 + 0.05 * i).requires_grad_()
    cell = (127 / 32, 95 / 24)  # as PoSFeat reads a map
    first, second = (
        Features(
            xy,
            score,
            describe(
                Level(waves(6, 24, 32, phase, **DOUBLE), cell, (cell[0] / 2, cell[1] / 2)),
                xy,
                "zeros",
            ),
        )
        for xy, score, phase in zip(places, scores, (0.0, 0.4), strict=True)
    )
    rewards = epipolar_reward(
        first.xy, second.xy, view1, view2, threshold=20, true_positive=1, false_positive=-0.25
    )
    loss, _ = pair_loss(
        first, second, rewards, inverse_temperature=60, keypoint_penalty=-0.001, credit="own",
        affinity="cosine",
    )  # fmt: skip
    loss.backward()
    assert scores[0].grad[:6].tolist() == pytest.approx(
        [
            -0.9960056510471654, -0.0007767286253873831, 0.0010000000425856232,
            -0.9584367365863689, 0.2507446822443128, -0.030522903520642207,
        ],
        abs=1e-10,
    )  # fmt: skip
    assert scores[1].grad[6:].tolist() == pytest.approx(
        [
            0.0010000017719950661, 0.000999999968946315, -0.9574967865297147,
            -0.030725818544804842, 0.001058866972544069, 0.04263834852552197,
        ],
        abs=1e-10,
    )  # fmt: skip


def test_the_ramp_and_the_annealing_can_be_switched_off() -> None:
    conf = settings()
    assert reward_of(conf, 0).keywords["false_positive"] == 0
    conf["reward"]["ramp"] = False
    conf["estimator"] |= {"inverse_temperature": [60, 60], "annealing_epochs": 0}
    for epoch in (0, 3, 30):
        assert reward_of(conf, epoch).keywords["false_positive"] == -0.25
        assert loss_of(conf, epoch).keywords["keypoint_penalty"] == -0.001
        assert loss_of(conf, epoch).keywords["inverse_temperature"] == 60
