"""Train for one epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from disk_hloc.log import logger

from .data import Batch
from .networks import set_training
from .objectives import Objective, objective_of
from .schedule import learning_rate
from .session import Session


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
    objective = objective_of(session.settings)
    session.wrapped_network.train()
    set_training(session.network, session.settings["model"]["trained"])
    _set_learning_rate(session, epoch)
    name, values = "", []
    with session.progress(f"Epoch {epoch}", stop - start, session.done - start) as progress:
        for batch in islice(stream, stop - session.done):
            index = session.done - start + 1
            stepping = index % substep == 0 or session.done + 1 == stop
            figures = _backward(session, batch, objective, epoch, stepping)
            if stepping:
                session.wrapped_optimizer.step()
                session.wrapped_optimizer.zero_grad()
            name = figures[0]._fields[0]
            values.append(float(np.mean([one[0] for one in figures])))
            _log(session, figures)
            session.done += 1
            progress.update()
            progress.set_postfix({name: f"{np.mean(values[-100:]):.2f}"})
            if stepping and interrupted():
                session.save()
                raise KeyboardInterrupt
            if stepping and index // substep % save_every == 0:
                session.save()
    session.save()
    if values and session.fabric.is_global_zero:
        what = "expected reward" if name == "reward" else name
        logger.info("Epoch %d: %s of a pair %.3f", epoch, what, np.mean(values))


def _backward(
    session: Session, batch: Batch, objective: Objective, epoch: int, stepping: bool
) -> list[Any]:
    """Accumulate the gradient of one batch."""
    fabric = session.fabric
    torch.manual_seed(batch_seed(session.seed, session.done, fabric.global_rank))
    batch = batch.to(fabric.device)
    with fabric.no_backward_sync(session.wrapped_network, enabled=not stepping):
        surrogate, figures = objective(session.wrapped_network, batch, epoch)
        fabric.backward(surrogate)
    return figures


def _set_learning_rate(session: Session, epoch: int) -> None:
    conf = session.settings["optimizer"]
    rate = learning_rate(epoch, conf["learning_rate"], conf["decay_epochs"], conf["decay"])
    for group in session.optimizer.param_groups:
        group["lr"] = rate


def _log(session: Session, figures: Sequence[Any]) -> None:
    if session.writer is not None:
        for tag, values in zip(figures[0]._fields, zip(*figures, strict=True), strict=True):
            session.writer.add_scalar(f"train/{tag}", float(np.mean(values)), session.done)


def batch_seed(seed: int, number: int, rank: int) -> int:
    """Return the seed of torch's generator for one batch of a run on one device."""
    words = np.random.SeedSequence([seed, number, rank]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
