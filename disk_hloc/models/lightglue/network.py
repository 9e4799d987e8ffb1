"""LightGlue's layers: which pairs stop early, and which keypoints are dropped.

Lindenberger, Sarlin, Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023,
section 3.3. A CPU matches one pair at a time and drops the keypoints that have no match. A GPU
matches many pairs at once, of which each leaves the batch when it is certain; nothing is dropped
there, since pairs would no longer have one shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .blocks import Assignment, CrossAttention, FirstSelfAttention, SelfAttention, of_both

# Pairs of these many pairs of keypoints in all are assigned at once: 400 MB for each matrix.
_ASSIGNED = 100_000_000


class Side(NamedTuple):
    """The first or the second images of some pairs.

    Attributes:
        x: (B, N, C) descriptors.
        positions: (B, 2, 1, N, D / 2) cosines and sines, of heads with D channels.
        ids: (B, N) int64, which keypoint of its image each is.
        valid: (B, N) bool, which keypoints are there; None for all.
    """

    x: Tensor
    positions: Tensor
    ids: Tensor
    valid: Tensor | None

    def of(self, pairs: Tensor) -> Side:
        """Return those of the pairs of (B',) indices."""
        valid = None if self.valid is None else self.valid[pairs]
        return Side(self.x[pairs], self.positions[pairs], self.ids[pairs], valid)

    def only(self, keypoints: Tensor) -> Side:
        """Return some keypoints of the only pair, of (N',) indices; all of them are there."""
        return Side(
            self.x[:, keypoints], self.positions[..., keypoints, :], self.ids[:, keypoints], None
        )

    def counts(self) -> Tensor:
        """Return the (B,) numbers of keypoints."""
        if self.valid is None:
            return torch.full(self.x.shape[:1], self.x.shape[1], device=self.x.device)
        return self.valid.sum(1)


class Network(nn.Module):
    """LightGlue for one device.

    Args:
        network: ``kornia.feature.LightGlue`` with its parameters and ``conf``, on the device.
        dtype: of products.
    """

    def __init__(self, network: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.conf = network.conf
        on_cpu = network.posenc.Wr.weight.device.type == "cpu"
        self.one_at_a_time = on_cpu
        blocks = [(layer.self_attn, layer.cross_attn) for layer in network.transformers]
        first = FirstSelfAttention if on_cpu else SelfAttention
        self.project = deepcopy(network.input_proj)
        self.frequencies = deepcopy(network.posenc.Wr)
        self.self_attention = nn.ModuleList(
            (first if i == 0 else SelfAttention)(block, dtype)
            for i, (block, _) in enumerate(blocks)
        )
        self.cross_attention = nn.ModuleList(CrossAttention(block, dtype) for _, block in blocks)
        self.assign = nn.ModuleList(map(Assignment, network.log_assignment))
        self.confidence = nn.ModuleList(deepcopy(one.token) for one in network.token_confidence)
        self.thresholds = network.confidence_thresholds.tolist()
        self.eval().requires_grad_(False)

    def forward(
        self,
        keypoints: tuple[Tensor, Tensor],
        descriptors: tuple[Tensor, Tensor],
        sizes: tuple[Tensor, Tensor],
        counts: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Match a batch of image pairs.

        Args:
            keypoints: (B, N, 2) and (B, M, 2) x and y in pixels.
            descriptors: (B, N, C) and (B, M, C).
            sizes: (B, 2) width and height of the images, twice.
            counts: (B,) of each image the number of its keypoints, which are the first; the others
                are not there. None for all.

        Returns:
            (B, N) int64 matches, -1 for no match, and (B, N) scores in [0, 1].
        """
        count, number = keypoints[0].shape[:2]
        matches = torch.full((count, number), -1, device=keypoints[0].device)
        scores = matches.new_zeros(matches.shape, dtype=torch.float32)
        sides = [
            self._side(*one)
            for one in zip(keypoints, descriptors, sizes, counts or (None, None), strict=True)
        ]
        everything = torch.arange(count, device=matches.device)
        for pairs in everything.split(1 if self.one_at_a_time else count):
            first, second = (side.of(pairs) for side in sides)
            if self.one_at_a_time and first.valid is not None and second.valid is not None:
                first, second = (
                    side.only(torch.arange(int(side.counts()))) for side in (first, second)
                )
            for ended, layer, one, other in self._until_certain(first, second):
                rows = pairs[ended][:, None]
                found, values = self._assigned(layer, one, other)
                matches[rows, one.ids] = found
                scores[rows, one.ids] = values
        return matches, scores

    def _side(
        self, keypoints: Tensor, descriptors: Tensor, sizes: Tensor, counts: Tensor | None
    ) -> Side:
        scale = sizes.amax(1) / 2
        normalized = (keypoints - sizes[:, None] / 2) / scale[:, None, None]
        angles = self.frequencies(normalized)[:, None]
        ids = torch.arange(keypoints.shape[1], device=keypoints.device)
        return Side(
            self.project(descriptors.contiguous()),
            torch.stack([angles.cos(), angles.sin()], dim=1),
            ids.expand(len(keypoints), -1),
            None if counts is None else ids < counts[:, None],
        )

    def _until_certain(self, first: Side, second: Side) -> Iterator[tuple[Tensor, int, Side, Side]]:
        """Yield the indices of pairs that need no more layers, their last layer, and both sides.

        A pair of which all keypoints of an image were dropped is not yielded.
        """
        pairs = torch.arange(len(first.x), device=first.x.device)
        keypoints = first.counts() + second.counts()
        *others, last = range(len(self.assign))
        for layer in others:
            first, second = self._layer(layer, first, second)
            confidences: list[Tensor | None] = [None, None]
            if self.conf.depth_confidence > 0:
                confidences = [self._confidences(layer, side) for side in (first, second)]
                unsure = sum((one < self.thresholds[layer]).sum(1) for one in confidences)
                certain = 1.0 - unsure / keypoints[pairs] > self.conf.depth_confidence
                if certain.any():
                    ended, left = certain.nonzero()[:, 0], (~certain).nonzero()[:, 0]
                    yield pairs[ended], layer, first.of(ended), second.of(ended)
                    pairs, first, second = pairs[left], first.of(left), second.of(left)
                if len(pairs) == 0:
                    return
            if self.one_at_a_time and self.conf.width_confidence > 0:
                first, second = (
                    side.only(self._kept(layer, side, confidence))
                    for side, confidence in zip((first, second), confidences, strict=True)
                )
                if 0 in (first.x.shape[1], second.x.shape[1]):
                    return
        yield pairs, last, *self._layer(last, first, second)

    def _layer(self, layer: int, first: Side, second: Side) -> tuple[Side, Side]:
        attend, counts = self.self_attention[layer], None
        if first.valid is None or second.valid is None:
            x0, x1 = of_both(attend, (first.x, first.positions), (second.x, second.positions))
        else:
            both = [side.counts().tolist() for side in (first, second)]
            x0, x1 = (
                attend(side.x, side.positions, some)
                for side, some in zip((first, second), both, strict=True)
            )
            counts = list(zip(*both, strict=True))
        x0, x1 = self.cross_attention[layer](x0, x1, counts)
        return first._replace(x=x0), second._replace(x=x1)

    def _confidences(self, layer: int, side: Side) -> Tensor:
        """Return (B, N) how certain it is that more layers do not change a keypoint's match."""
        confidences: Tensor = self.confidence[layer](side.x)[..., 0]
        return confidences if side.valid is None else confidences.where(side.valid, 1.0)

    def _kept(self, layer: int, side: Side, confidences: Tensor | None) -> Tensor:
        """Return the (N',) indices of the only pair's keypoints that may have a match."""
        assign = cast(Assignment, self.assign[layer])
        keep = assign.matchabilities(side.x) > 1 - self.conf.width_confidence
        if confidences is not None:
            keep |= confidences <= self.thresholds[layer]
        return keep[0].nonzero()[:, 0]

    def _assigned(self, layer: int, first: Side, second: Side) -> tuple[Tensor, Tensor]:
        """Return the (B, N) matches of all keypoints of the first images, and their scores."""
        step = max(1, _ASSIGNED // (first.x.shape[1] * second.x.shape[1]))
        found = [
            mutual_best(self._logarithms(layer, *sides), self.conf.filter_threshold)
            for sides in zip(_split(first, step), _split(second, step), strict=True)
        ]
        matches, scores = map(torch.cat, zip(*found, strict=True))
        named = second.ids.gather(1, matches.clamp(min=0))
        return named.where(matches >= 0, -1), scores

    def _logarithms(self, layer: int, first: Side, second: Side) -> Tensor:
        """Return the (B, N, M) logarithms of match probabilities."""
        valid = None
        if first.valid is not None and second.valid is not None:
            valid = first.valid[:, :, None] & second.valid[:, None]
        logarithms: Tensor = self.assign[layer](first.x, second.x, valid)
        return logarithms


def _split(side: Side, count: int) -> Iterator[Side]:
    """Yield some of the pairs at a time."""
    for pairs in torch.arange(len(side.x), device=side.x.device).split(count):
        yield side.of(pairs)


def mutual_best(logarithms: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the matches of keypoints that are each other's most probable.

    Args:
        logarithms: (B, N, M) of the probabilities of matches.
        threshold: a match is more probable.

    Returns:
        (B, N) int64 matches, -1 for no match, and (B, N) probabilities, 0 for those that are not
        mutual.
    """
    largest, best = logarithms.max(2)
    back = logarithms.argmax(1).gather(1, best)
    mutual = back == torch.arange(best.shape[1], device=best.device)
    scores = largest.exp().where(mutual, 0.0)
    return best.where(scores > threshold, -1), scores
