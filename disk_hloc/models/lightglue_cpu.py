"""LightGlue's blocks for a CPU: without large matrices, and in bfloat16 where that is fast.

Kornia writes matrices of all pairs of keypoints, 400 MB each for 5,000, their transposes and
softmaxes; :mod:`.attention` does not. In bfloat16 products take half the time and less; descriptors
are summed in float32 from layer to layer. On a GPU the blocks call kornia's, and the assignment
alone is ours.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
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


def has_fast_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 in instructions of its own."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def replace_blocks(network: Any, dtype: torch.dtype) -> None:
    """Replace the blocks of kornia's LightGlue by those of this module.

    Elsewhere than on a CPU the new blocks call kornia's.

    Args:
        network: ``kornia.feature.LightGlue`` with its parameters loaded, changed in place.
        dtype: float32 or bfloat16, of products on a CPU.
    """
    for number, layer in enumerate(network.transformers):
        block = FirstSelfAttention if number == 0 else SelfAttention
        layer.self_attn = block(layer.self_attn, dtype)
        layer.cross_attn = CrossAttention(layer.cross_attn, dtype)
    network.log_assignment = nn.ModuleList(map(Assignment, network.log_assignment))


def restore_blocks(network: Any) -> None:
    """Put kornia's blocks back in the places of those of this module, to compare them."""
    for layer in network.transformers:
        layer.self_attn, layer.cross_attn = layer.self_attn.block, layer.cross_attn.block
    network.log_assignment = nn.ModuleList(one.block for one in network.log_assignment)


class SelfAttention(nn.Module):
    """Kornia's block of self-attention.

    The channels of each head are in another order: first those that kornia has at even places, so
    that the rotation by a keypoint's position takes halves instead of every other value.

    Args:
        block: kornia's, with its parameters.
        dtype: float32 or bfloat16, of products on a CPU.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.block = block
        heads, size = block.num_heads, block.head_dim
        rotated = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
        scale = size**-0.5 * LOG2_E

        def order(values: Tensor) -> Tensor:
            queries, keys, values = values.unflatten(0, (heads, size, 3)).unbind(2)
            return torch.stack([queries[:, rotated] * scale, keys[:, rotated], values])

        weight, bias = order(block.Wqkv.weight), order(block.Wqkv.bias)
        self.project = _Heads(weight.flatten(0, 2), bias.flatten(), heads, dtype)
        self.update = _Update(block.out_proj, block.ffn, dtype)

    def forward(self, x: Tensor, encoding: Tensor, mask: Tensor | None = None) -> Tensor:
        """Update the (B, N, D) descriptors of one image by each other.

        Args:
            x: descriptors.
            encoding: (2, B, 1, N, D / heads) cosines and sines of positions, each twice in a row.
            mask: kornia's; None for all.
        """
        if x.device.type != "cpu" or mask is not None:
            return self.block(x, encoding, mask)
        queries, keys, values = self.project(x)
        cosines, sines = encoding[..., ::2]
        queries, keys = (_rotate(one, cosines, sines) for one in (queries, keys))
        return self.update(x, attend(queries, keys, values))


class FirstSelfAttention(SelfAttention):
    """The block before any cross-attention, whose result an image has in each of its pairs.

    Results of the last images are kept, and found again by the digest of what they were made of.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__(block, dtype)
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def forward(self, x: Tensor, encoding: Tensor, mask: Tensor | None = None) -> Tensor:
        """Update the (B, N, D) descriptors of one image by each other, as in the other layers."""
        if x.device.type != "cpu" or mask is not None:
            return super().forward(x, encoding, mask)
        digest = hashlib.blake2b(repr(x.shape).encode(), digest_size=16)
        for values in (x, encoding):
            digest.update(values.numpy().tobytes())
        key = digest.digest()
        updated = self._kept.pop(key, None)
        if updated is None:
            updated = super().forward(x, encoding)
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
        dtype: float32 or bfloat16, of products on a CPU.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.block = block
        # An image's projection holds its queries and its keys.
        scale = (block.scale * LOG2_E) ** 0.5
        weight = torch.cat([block.to_qk.weight * scale, block.to_v.weight])
        bias = torch.cat([block.to_qk.bias * scale, block.to_v.bias])
        self.project = _Heads(weight, bias, block.heads, dtype)
        self.update = _Update(block.to_out, block.ffn, dtype)

    def forward(self, x0: Tensor, x1: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Update the (B, N, D) and (B, M, D) descriptors of two images by each other."""
        if x0.device.type != "cpu" or mask is not None:
            return self.block(x0, x1, mask)
        (keys0, values0), (keys1, values1) = self.project(x0), self.project(x1)
        messages0, messages1 = attend_both(keys0, keys1, values0, values1)
        return self.update(x0, messages0), self.update(x1, messages1)


class Assignment(nn.Module):
    """Kornia's last block, with one matrix of all pairs of keypoints instead of eight.

    Args:
        block: kornia's, with its parameters.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, None]:
        """Return the (B, N + 1, M + 1) logarithms of match probabilities.

        The last row and column are those of keypoints without a match. Instead of the
        similarities, which are kornia's second result and which nothing uses, there is None.
        """
        certain0, certain1 = (self.block.matchability(x) for x in (x0, x1))
        scale = x0.shape[-1] ** -0.25
        projected0, projected1 = (self.block.final_proj(x) * scale for x in (x0, x1))
        scores = x0.new_zeros(len(x0), x0.shape[1] + 1, x1.shape[1] + 1)
        inner = scores[:, :-1, :-1]
        torch.matmul(projected0, projected1.transpose(1, 2), out=inner)
        # log(softmax over rows * softmax over columns * both matchable).
        rows, columns = _log_sums(inner)
        rows = F.logsigmoid(certain0) - rows
        columns = F.logsigmoid(certain1).transpose(1, 2) - columns
        inner.mul_(2).add_(rows).add_(columns)
        scores[:, :-1, -1] = F.logsigmoid(-certain0).squeeze(-1)
        scores[:, -1, :-1] = F.logsigmoid(-certain1).squeeze(-1)
        return scores, None

    def get_matchability(self, x: Tensor) -> Tensor:
        """Return the (B, N) probabilities that keypoints have a match."""
        return self.block.get_matchability(x)


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
        dtype: float32 or bfloat16, of the product and its result.
    """

    def __init__(self, weight: Tensor, bias: Tensor, heads: int, dtype: torch.dtype) -> None:
        super().__init__(weight.shape[1], weight.shape[0], dtype=dtype)
        self.heads = heads
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (P, B, H, N, D) parts of (B, N, C) descriptors."""
        projected = super().forward(x.to(self.weight.dtype))
        parts = self.out_features // x.shape[-1]
        return projected.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)


class _Update(nn.Module):
    """Adds what attention found to the descriptors.

    Args:
        project: of the messages of all heads; it becomes a part of the first layer of ``ffn``.
        ffn: of descriptors and messages.
        dtype: float32 or bfloat16.
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


def _rotate(channels: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate the pairs of channels, one of each half, by a keypoint's angles."""
    first, second = channels.chunk(2, dim=-1)
    rotated = [first * cosines - second * sines, second * cosines + first * sines]
    return torch.cat(rotated, dim=-1).to(channels)
