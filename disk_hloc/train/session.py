"""What a run has under way: network, optimizer, logs, and how far it is."""

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
from .network import Network


class Session:
    """A training under way.

    Attributes:
        network, optimizer: as they were given.
        wrapped_network, wrapped_optimizer: the same, to be called: on one device or several, in the
            precision asked for.
        settings: the conf, and ``run``.
        done: batches that are done.
        validated: epochs that are done and validated.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
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
        """Take what :meth:`save` saved; the network has its parameters already."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.done, self.validated = state["done"], state["validated"]
        logger.info("Going on in %s after %d batches", self.out, self.done)

    def save(self) -> None:
        """Save the state; what was logged until then is on disk before it is."""
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
        """Write figures to TensorBoard meanwhile."""
        if not self.fabric.is_global_zero:
            yield
            return
        with SummaryWriter(str(self.out)) as self.writer:
            yield
        self.writer = None

    def epoch(self, number: int) -> int:
        """The epoch by which things are annealed and named, of the run's epoch ``number``."""
        return int(number + self.settings["schedule"]["epoch_offset"])

    def end(self, number: int) -> int:
        """How many batches are done after the run's epoch ``number``."""
        schedule = self.settings["schedule"]
        count = (number + 1) * schedule["chunk_size"]
        if schedule["epoch_offset"] == 0:
            count -= max(0, schedule["chunk_size"] - schedule["warmup"])
        return int(count)

    def progress(self, title: str, total: int, initial: int = 0) -> tqdm:
        """A bar of batches, on the first device alone."""
        return tqdm(
            desc=title, total=total, initial=initial, unit="batch",
            disable=not self.fabric.is_global_zero,
        )  # fmt: skip
