"""Policy gradient: the expected reward of matches of sampled keypoints (DISK's paper, section 3).

PoSFeat's second stage (Li, Wang, Liu, Ran, Xu, Guo, "Decoupling makes weakly supervised local
feature better", CVPR 2022, section 3.3) is the same with other settings: matches by the cosine at a
constant temperature, rewards by epipolar geometry, penalties from the start, and a network of which
only the detector is trained.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from disk_hloc.confs import Conf
from disk_hloc.models.disk_network.keypoints import sample_keypoints

from ..data import Batch
from ..estimator import PairFigures, PairLoss, backward_pairs, pair_loss
from ..features import split
from ..rewards import Reward, depth_reward, epipolar_reward
from ..schedule import inverse_temperature, penalty_ramp

REWARDS = {"depth": depth_reward, "epipolar": epipolar_reward}


def objective(
    settings: Conf, network: nn.Module, batch: Batch, epoch: int
) -> tuple[Tensor, list[PairFigures]]:
    """Sample keypoints, and estimate the gradient of the expected reward of all pairs."""
    detect = partial(sample_keypoints, cell=settings["model"]["cell_size"])
    features = split(network(batch.images, detect), len(batch.views[0]))
    return backward_pairs(
        features, batch.views, reward_of(settings, epoch), loss_of(settings, epoch)
    )


def reward_of(settings: Conf, epoch: int) -> Reward:
    """Return the reward of an epoch, with its scheduled penalties."""
    conf = settings["reward"]
    return partial(
        REWARDS[conf["name"]],
        threshold=conf["threshold"],
        true_positive=conf["true_positive"],
        false_positive=conf["false_positive"] * _ramp(settings, epoch),
    )


def loss_of(settings: Conf, epoch: int) -> PairLoss:
    """Return the loss of a pair in an epoch, with its scheduled penalties and temperature."""
    conf = settings["estimator"]
    return partial(
        pair_loss,
        inverse_temperature=inverse_temperature(
            epoch, conf["inverse_temperature"], conf["annealing_epochs"]
        ),
        keypoint_penalty=settings["reward"]["keypoint"] * _ramp(settings, epoch),
        credit=conf["credit"],
        affinity=conf["affinity"],
    )


def _ramp(settings: Conf, epoch: int) -> float:
    return penalty_ramp(epoch) if settings["reward"]["ramp"] else 1.0
