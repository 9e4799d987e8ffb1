"""Train for one epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch

from disk_hloc.confs import Conf
from disk_hloc.log import logger
from disk_hloc.models.disk_network.keypoints import sample_keypoints

from .data import Batch
from .estimator import PairFigures, PairLoss, backward_pairs, pair_loss
from .network import split
from .rewards import Reward, depth_reward, epipolar_reward
from .schedule import inverse_temperature, penalty_ramp
from .session import Session

REWARDS = {"depth": depth_reward, "epipolar": epipolar_reward}


def train_epoch(
    session: Session,
    number: int,
    stream: Iterator[Batch],
    save_every: int,
    interrupted: Callable[[], bool],
) -> None:
    """Train for the rest of an epoch.

    Raises:
        KeyboardInterrupt: the run should stop; the state was saved.
    """
    start, stop = session.end(number - 1) if number else 0, session.end(number)
    substep = session.settings["schedule"]["substep"]
    epoch = session.epoch(number)
    reward, loss = reward_of(session.settings, epoch), loss_of(session.settings, epoch)
    session.wrapped_network.train()
    rewards = []
    with session.progress(f"Epoch {epoch}", stop - start, session.done - start) as progress:
        for batch in islice(stream, stop - session.done):
            index = session.done - start + 1
            stepping = index % substep == 0 or session.done + 1 == stop
            figures = _backward(session, batch, reward, loss, stepping)
            if stepping:
                session.wrapped_optimizer.step()
                session.wrapped_optimizer.zero_grad()
            rewards.append(float(np.mean([one.reward for one in figures])))
            _log(session, figures)
            session.done += 1
            progress.update()
            progress.set_postfix(reward=f"{np.mean(rewards[-100:]):.2f}")
            if stepping and interrupted():
                session.save()
                raise KeyboardInterrupt
            if stepping and index // substep % save_every == 0:
                session.save()
    session.save()
    if rewards and session.fabric.is_global_zero:
        logger.info("Epoch %d: expected reward of a pair %.3f", epoch, np.mean(rewards))


def _backward(
    session: Session, batch: Batch, reward: Reward, loss: PairLoss, stepping: bool
) -> list[PairFigures]:
    """Accumulate the gradient of one batch."""
    fabric = session.fabric
    torch.manual_seed(batch_seed(session.seed, session.done, fabric.global_rank))
    batch = batch.to(fabric.device)
    cell = session.settings["model"]["cell_size"]
    with fabric.no_backward_sync(session.wrapped_network, enabled=not stepping):
        features = session.wrapped_network(batch.images, partial(sample_keypoints, cell=cell))
        surrogate, figures = backward_pairs(
            split(features, len(batch.views[0])), batch.views, reward, loss
        )
        fabric.backward(surrogate)
    return figures


def reward_of(settings: Conf, epoch: int) -> Reward:
    """Return the reward of an epoch, with its scheduled penalties."""
    conf = settings["reward"]
    return partial(
        REWARDS[conf["name"]],
        threshold=conf["threshold"],
        true_positive=conf["true_positive"],
        false_positive=conf["false_positive"] * penalty_ramp(epoch),
    )


def loss_of(settings: Conf, epoch: int) -> PairLoss:
    """Return the loss of a pair in an epoch, with its scheduled penalties and temperature."""
    conf = settings["estimator"]
    return partial(
        pair_loss,
        inverse_temperature=inverse_temperature(
            epoch, conf["inverse_temperature"], conf["annealing_epochs"]
        ),
        keypoint_penalty=settings["reward"]["keypoint"] * penalty_ramp(epoch),
        credit=conf["credit"],
    )


def _log(session: Session, figures: Sequence[PairFigures]) -> None:
    if session.writer is not None:
        for tag, values in zip(PairFigures._fields, zip(*figures, strict=True), strict=True):
            session.writer.add_scalar(f"train/{tag}", float(np.mean(values)), session.done)


def batch_seed(seed: int, number: int, rank: int) -> int:
    """Return the seed of torch's generator for one batch of a run on one device."""
    words = np.random.SeedSequence([seed, number, rank]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
