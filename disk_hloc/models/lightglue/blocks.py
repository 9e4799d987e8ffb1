"""LightGlue's blocks: without large matrices, and in half precision where that is fast.

Kornia writes matrices of all pairs of keypoints, 400 MB each for 5,000, their transposes and
softmaxes; :mod:`.attention` does not. In bfloat16 or float16 products take half the time and less;
descriptors are summed in float32 from layer to layer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import LOG2_E, attend, attend_both

# Of results of the first block.
_KEPT_BYTES = 1 << 30
# Rows of the assignment that are computed together; with 5,000 columns 5 MB.
_ROWS = 256
# Of a smaller sum, exponentials that are too small for float32 could be a part.
_LEAST_SUM = 1e-30


def of_both(
    compute: Callable[..., Tensor], first: tuple[Tensor, ...], second: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Compute something of the first and of the second images of pairs.

    If they have one shape, a GPU computes it of both at once: half as many kernels to start.

    Args:
        compute: takes the values of either, and returns (B, ...).
        first: (B, ...) values.
        second: (B, ...) values.
    """
    alike = all(one.shape == other.shape for one, other in zip(first, second, strict=True))
    if first[0].device.type == "cpu" or not alike:
        return compute(*first), compute(*second)
    joined = (torch.cat(both) for both in zip(first, second, strict=True))
    one, other = compute(*joined).chunk(2)
    return one, other


class SelfAttention(nn.Module):
    """Kornia's block of self-attention.

    The channels of each head are in another order: first those that kornia has at even places, so
    that the rotation by a keypoint's position takes halves instead of every other value.

    Args:
        block: kornia's, with its parameters.
        dtype: of products.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        heads, size = block.num_heads, block.head_dim
        rotated = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
        scale = size**-0.5 * LOG2_E

        def order(values: Tensor) -> Tensor:
            queries, keys, values = values.unflatten(0, (heads, size, 3)).unbind(2)
            return torch.stack([queries[:, rotated] * scale, keys[:, rotated], values])

        weight, bias = order(block.Wqkv.weight), order(block.Wqkv.bias)
        self.project = _Heads(weight.flatten(0, 2), bias.flatten(), heads, dtype)
        self.update = _Update(block.out_proj, block.ffn, dtype)

    def forward(self, x: Tensor, positions: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Update the (B, N, C) descriptors of images by each other.

        Args:
            x: descriptors.
            positions: (B, 2, 1, N, D / 2) cosines and sines, of heads with D channels.
            counts: B numbers of keypoints, which are the first; the others are not there. None for
                all.
        """
        parts = self.project(x)
        if parts.dtype == torch.float16:
            positions = positions.half()
        queries, keys = _rotate(parts[:, :2], positions).unbind(1)
        both = None if counts is None else list(zip(counts, counts, strict=True))
        return self.update(x, attend(queries, keys, parts[:, 2], both))


class FirstSelfAttention(SelfAttention):
    """The block before any cross-attention, whose result an image has in each of its pairs.

    Results of the last images are kept, and found again by the digest of what they were made of.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__(block, dtype)
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def forward(self, x: Tensor, positions: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Update the (1, N, C) descriptors of an image by each other, as in the other layers."""
        if counts is not None:
            return super().forward(x, positions, counts)
        digest = hashlib.blake2b(repr(x.shape).encode(), digest_size=16)
        for values in (x, positions):
            digest.update(values.numpy().tobytes())
        key = digest.digest()
        updated = self._kept.pop(key, None)
        if updated is None:
            updated = super().forward(x, positions)
        self._kept[key] = updated
        while sum(one.nbytes for one in self._kept.values()) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return updated

    def forget(self) -> None:
        """Keep nothing of the images so far."""
        self._kept.clear()


class CrossAttention(nn.Module):
    """Kornia's block of cross-attention.

    Args:
        block: kornia's, with its parameters.
        dtype: of products.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        # An image's projection holds its queries and its keys.
        scale = (block.scale * LOG2_E) ** 0.5
        weight = torch.cat([block.to_qk.weight * scale, block.to_v.weight])
        bias = torch.cat([block.to_qk.bias * scale, block.to_v.bias])
        self.project = _Heads(weight, bias, block.heads, dtype)
        self.update = _Update(block.to_out, block.ffn, dtype)

    def forward(
        self, x0: Tensor, x1: Tensor, counts: Sequence[tuple[int, int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Update the (B, N, C) and (B, M, C) descriptors of two images by each other.

        Args:
            x0: descriptors of the first images.
            x1: of the second images.
            counts: B numbers of keypoints of both, as in :class:`SelfAttention`.
        """
        both = of_both(self.project, (x0,), (x1,))
        (keys0, values0), (keys1, values1) = (one.unbind(1) for one in both)
        messages0, messages1 = attend_both(keys0, keys1, values0, values1, counts)
        return of_both(self.update, (x0, messages0), (x1, messages1))


class Assignment(nn.Module):
    """Kornia's last block, with one matrix of all pairs of keypoints instead of eight.

    Args:
        block: kornia's, with its parameters.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.matchability = deepcopy(block.matchability)
        self.project = deepcopy(block.final_proj)

    def forward(self, x0: Tensor, x1: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the (B, N, M) logarithms of match probabilities.

        Args:
            x0: (B, N, C) descriptors of the first images.
            x1: (B, M, C), of the second images.
            valid: (B, N, M) bool, which may be matches; the others are -inf. None for all.
        """
        scale = x0.shape[-1] ** -0.25
        projected0, projected1 = (self.project(x) * scale for x in (x0, x1))
        logits = projected0 @ projected1.transpose(1, 2)
        if valid is not None:
            logits.masked_fill_(~valid, -torch.inf)
        # log(softmax over rows * softmax over columns * both matchable).
        rows, columns = _log_sums(logits)
        rows = F.logsigmoid(self.matchability(x0)) - rows
        columns = F.logsigmoid(self.matchability(x1)).transpose(1, 2) - columns
        logits.mul_(2).add_(rows).add_(columns)
        # Of a keypoint that is not there, -inf less -inf.
        return logits if valid is None else logits.masked_fill_(~valid, -torch.inf)

    def matchabilities(self, x: Tensor) -> Tensor:
        """Return the (B, N) probabilities that keypoints have a match."""
        return self.matchability(x).sigmoid().squeeze(-1)


def _log_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the sums of exponentials, of rows and of columns.

    On a CPU both share the exponentials, unless logits span more than the exponents of float32.

    Args:
        logits: (B, N, M) float32.

    Returns:
        (B, N, 1) and (B, 1, M).
    """
    if logits.device.type == "cpu" and logits.numel() > 0:
        largest = logits.amax((1, 2), keepdim=True)
        columns = torch.zeros_like(logits[:, :1])
        rows = []
        for block in logits.split(_ROWS, dim=1):
            exponentials = (block - largest).exp_()
            rows.append(exponentials.sum(2, keepdim=True))
            columns += exponentials.sum(1, keepdim=True)
        sums = torch.cat(rows, 1), columns
        if all((one > _LEAST_SUM).all() for one in sums):
            return sums[0].log() + largest, sums[1].log() + largest
    return logits.logsumexp(2, keepdim=True), logits.logsumexp(1, keepdim=True)


class _Heads(nn.Linear):
    """Projects descriptors for the heads of attention.

    Args:
        weight: (P C, C) of P parts, such as queries, keys and values; C is H D.
        bias: (P C,).
        heads: H.
        dtype: of the product and its result.
    """

    def __init__(self, weight: Tensor, bias: Tensor, heads: int, dtype: torch.dtype) -> None:
        super().__init__(weight.shape[1], weight.shape[0], device=weight.device, dtype=dtype)
        self.heads = heads
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, P, H, N, D) parts of (B, N, C) descriptors."""
        projected = super().forward(x.to(self.weight.dtype))
        parts = self.out_features // x.shape[-1]
        return projected.unflatten(-1, (parts, self.heads, -1)).permute(0, 2, 3, 1, 4)


class _Update(nn.Module):
    """Adds what attention found to the descriptors.

    Args:
        project: of the messages of all heads; it becomes a part of the first layer of ``ffn``.
        ffn: of descriptors and messages.
        dtype: of products.
    """

    def __init__(self, project: nn.Linear, ffn: Any, dtype: torch.dtype) -> None:
        super().__init__()
        linear, *rest = deepcopy(ffn)
        with torch.no_grad():
            own, message = linear.weight.chunk(2, dim=1)
            linear.bias += message @ project.bias
            linear.weight.copy_(torch.cat([own, message @ project.weight], dim=1))
        self.ffn = nn.Sequential(linear, *rest).to(dtype)

    def forward(self, x: Tensor, messages: Tensor) -> Tensor:
        """Return (B, N, D) descriptors, of x and the (B, H, N, D / H) messages of the heads."""
        messages = messages.transpose(1, 2).flatten(start_dim=-2)
        return x + self.ffn(torch.cat([x.to(messages), messages], dim=-1))


def _rotate(channels: Tensor, positions: Tensor) -> Tensor:
    """Rotate the pairs of channels, one of each half, by a keypoint's angles.

    Args:
        channels: (B, P, H, N, D), of parts and heads.
        positions: (B, 2, 1, N, D / 2) cosines and sines.
    """
    first, second = channels.chunk(2, dim=-1)
    cosines, sines = positions.chunk(2, dim=1)
    rotated = [
        torch.addcmul(first * cosines, second, sines, value=-1),
        torch.addcmul(second * cosines, first, sines),
    ]
    return torch.cat(rotated, dim=-1).to(channels)
