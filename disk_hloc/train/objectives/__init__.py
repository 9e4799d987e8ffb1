"""What a training makes better, by the name in a conf's ``objective``.

An objective gets the network, a batch and the number of the epoch. It returns a scalar whose
gradient with respect to the network's parameters is that of the loss, for one backward pass, and
figures of each pair of images, the first of which is what it makes better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from disk_hloc.confs import Conf

from ..data import Batch
from . import attention, hardest, line_to_window, policy

# The figures are NamedTuples, whose fields are the tags of the logs.
Objective = Callable[[nn.Module, Batch, int], tuple[Tensor, list[Any]]]

OBJECTIVES: dict[str, Callable[..., tuple[Tensor, list[Any]]]] = {
    "policy": policy.objective,
    "line_to_window": line_to_window.objective,
    "hardest": hardest.objective,
    "attention": attention.objective,
}


def objective_of(settings: Conf) -> Objective:
    """Return the objective of the settings."""
    return partial(OBJECTIVES[settings["objective"]["name"]], settings)
