"""Losses of pairs of images with dense descriptors, differentiated one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data import Batch
from ..features import Features, Level, split
from ..geometry import View


class Seen(NamedTuple):
    """What an objective knows of one image.

    Attributes:
        levels: its dense maps, detached from the network.
        view: its camera.
        size: width and height in pixels, without the padding.
    """

    levels: tuple[Level, ...]
    view: View
    size: tuple[int, int]


# Two images -> a loss to differentiate, and the pair's figures.
DenseLoss = Callable[[Seen, Seen], tuple[Tensor, Any]]


def backward_dense_pairs(
    network: nn.Module, batch: Batch, loss: DenseLoss
) -> tuple[Tensor, list[Any]]:
    """Differentiate the mean loss of all pairs of each tuple.

    As in :func:`..estimator.backward_pairs`, what a pair needs is freed before the next one.

    Args:
        network: the network, called with the images.
        batch: B tuples.
        loss: function that computes the loss of a pair.

    Returns:
        A scalar whose gradient with respect to the network's parameters is that of the mean loss,
        and the figures of each pair.
    """
    features: list[Features] = network(batch.images, None)
    tuples = split(features, len(batch.views[0]))
    leaves = [[tuple(map(_leaf, one.levels)) for one in of_tuple] for of_tuple in tuples]
    pairs = list(combinations(range(len(batch.views[0])), 2))
    figures = []
    for of_tuple, views, sizes in zip(leaves, batch.views, batch.sizes, strict=True):
        seen = [Seen(*one) for one in zip(of_tuple, views, sizes, strict=True)]
        for i, j in pairs:
            value, of_pair = loss(seen[i], seen[j])
            if value.requires_grad:
                (value / (len(pairs) * len(leaves))).backward()
            figures.append(of_pair)
    parts = [
        # Of a pair without any correspondence the gradient is zero.
        (output * (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)).sum()
        for output, leaf in zip(
            _tensors(one.levels for of_tuple in tuples for one in of_tuple),
            _tensors(levels for of_tuple in leaves for levels in of_tuple),
            strict=True,
        )
        if output.requires_grad
    ]
    if not parts:
        raise ValueError("nothing of the network is trained that the objective depends on")
    return torch.stack(parts).sum(), figures


def _leaf(level: Level) -> Level:
    def leaf(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.detach().requires_grad_(values.requires_grad)

    descriptors = leaf(level.descriptors)
    assert descriptors is not None
    return level._replace(
        descriptors=descriptors, scores=leaf(level.scores), error=leaf(level.error)
    )


def _tensors(images: Iterable[tuple[Level, ...]]) -> list[Tensor]:
    return [
        values
        for levels in images
        for level in levels
        for values in (level.descriptors, level.scores, level.error)
        if values is not None
    ]
