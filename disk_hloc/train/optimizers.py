"""The optimizers, by the name in a conf's ``optimizer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def optimizer_of(network: nn.Module, conf: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer of the parameters that are trained.

    Args:
        network: with its frozen parts frozen.
        conf: the settings' ``optimizer``.
    """
    kind: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[conf["name"]]
    parameters = [one for one in network.parameters() if one.requires_grad]
    return kind(parameters, lr=conf["learning_rate"], weight_decay=conf["weight_decay"])
