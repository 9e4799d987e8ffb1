"""The state of a running training: network, optimizer, logs and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from disk_hloc.confs import Conf
from disk_hloc.log import logger

from . import checkpoints
from .trainable import Trainable


class Session:
    """A running training.

    Attributes:
        network, optimizer: the network and the optimizer without Fabric.
        wrapped_network, wrapped_optimizer: the same, wrapped by Fabric for the devices and the
            precision; these are called.
        settings: the conf, and ``run``.
        done: number of finished batches.
        validated: number of epochs that are finished and validated.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Trainable,
        optimizer: torch.optim.Optimizer,
        settings: Conf,
        out: Path,
        seed: int,
    ) -> None:
        self.fabric = fabric
        self.network = network
        self.optimizer = optimizer
        self.wrapped_network, self.wrapped_optimizer = fabric.setup(network, optimizer)
        self.settings = settings
        self.out = out
        self.seed = seed
        self.done = 0
        self.validated = 0
        self.writer: SummaryWriter | None = None

    def resume(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`save` saved, except the parameters of the network."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.done, self.validated = state["done"], state["validated"]
        logger.info("Resuming in %s after %d batches", self.out, self.done)

    def save(self) -> None:
        """Save the state, after flushing the logs to disk."""
        if not self.fabric.is_global_zero:
            return
        if self.writer is not None:
            self.writer.flush()
        checkpoints.save_state(
            self.out,
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "settings": self.settings,
                "done": self.done,
                "validated": self.validated,
            },
        )

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Open TensorBoard's writer inside the context."""
        if not self.fabric.is_global_zero:
            yield
            return
        with SummaryWriter(str(self.out)) as self.writer:
            yield
        self.writer = None

    def epoch(self, number: int) -> int:
        """Return the epoch for schedules and file names: ``number`` plus ``epoch_offset``."""
        return int(number + self.settings["schedule"]["epoch_offset"])

    def end(self, number: int) -> int:
        """Return the number of finished batches after the run's epoch ``number``."""
        schedule = self.settings["schedule"]
        count = (number + 1) * schedule["chunk_size"]
        if schedule["epoch_offset"] == 0:
            count -= max(0, schedule["chunk_size"] - schedule["warmup"])
        return int(count)

    def progress(self, title: str, total: int, initial: int = 0) -> tqdm:
        """Return a progress bar of batches, which is only shown for the first device."""
        return tqdm(
            desc=title, total=total, initial=initial, unit="batch",
            disable=not self.fabric.is_global_zero,
        )  # fmt: skip
