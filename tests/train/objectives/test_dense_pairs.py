"""Gradients of dense maps, pair by pair, against those of all pairs at once."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from disk_hloc.train.data import Batch
from disk_hloc.train.geometry import View
from disk_hloc.train.networks import set_training
from disk_hloc.train.objectives.dense_pairs import Seen, backward_dense_pairs
from support.tiny_network import TinyNetwork

NOWHERE = View(torch.eye(3), torch.eye(3), torch.zeros(3))


def loss(first: Seen, second: Seen) -> tuple[Tensor, Any]:
    one, other = first.levels[0], second.levels[0]
    return (one.descriptors * other.descriptors.square()).mean() + one.scores.mean(), None


def test_the_gradient_is_that_of_the_mean_of_all_pairs() -> None:
    torch.manual_seed(0)
    network = TinyNetwork(4)
    # In evaluation mode both passes have the same batch normalisation.
    network.eval()
    batch = Batch(torch.rand(6, 3, 16, 16), [[NOWHERE] * 3] * 2, [[(16, 16)] * 3] * 2, [["a"] * 3])
    surrogate, figures = backward_dense_pairs(network, batch, loss)
    trained = [*network.descriptor.parameters(), *network.attention.parameters()]
    by_pairs = torch.autograd.grad(surrogate, trained)
    levels = network.maps(batch.images)
    values = [
        loss(Seen(levels[3 * t + i], NOWHERE, (16, 16)), Seen(levels[3 * t + j], NOWHERE, (16, 16)))
        for t in range(2)
        for i, j in combinations(range(3), 2)
    ]
    at_once = torch.autograd.grad(torch.stack([value for value, _ in values]).mean(), trained)
    assert len(figures) == 6
    for mine, expected in zip(by_pairs, at_once, strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_network_without_anything_to_train_is_an_error() -> None:
    network = TinyNetwork(4)
    set_training(network, ["detector"])
    batch = Batch(torch.rand(2, 3, 16, 16), [[NOWHERE] * 2], [[(16, 16)] * 2], [["a"] * 2])
    with pytest.raises(ValueError, match="nothing"):
        backward_dense_pairs(network, batch, loss)
