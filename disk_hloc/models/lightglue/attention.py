"""Attention: without large matrices, and in bfloat16 where a CPU is fast at it.

A matrix of all queries and keys, 100 MB for 5,000 of each, takes longer to write and read than to
compute. In bfloat16 on a CPU it is computed for a few queries at a time, whose part stays in the
cache; elsewhere by torch.

Logits are to base 2 here, whose powers are faster to compute than those of e.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

# What logits to base e are multiplied by.
LOG2_E = math.log2(math.e)
# Elements of the part that is computed at a time: 10 MB.
_ELEMENTS = 5 << 20
# The largest weight, as a power of two: 2^127 less what the sum of all weighted values may be.
_LARGEST = 96.0
# Of a smaller sum, weights below 2^-126, which are 0, could be a noticeable part.
_LEAST_SUM = 2.0**-100


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, counts: Sequence[tuple[int, int]] | None = None
) -> Tensor:
    """Return the messages of softmax(queries keys^T) values.

    Args:
        queries: (B, H, N, D) float, of H heads; logits are to base 2.
        keys, values: (B, H, M, D).
        counts: B numbers of queries and of keys, which are the first; the others are not there.
            None for all.

    Returns:
        (B, H, N, D) messages; 0 for queries that are not there.
    """
    if counts is not None:
        # A mask would keep torch from its fast kernels.
        messages = _none(queries)
        for i, (n, m) in enumerate(counts):
            one = slice(i, i + 1)
            messages[one, :, :n] = attend(queries[one, :, :n], keys[one, :, :m], values[one, :, :m])
        return messages
    if not _by_parts(queries):
        return F.scaled_dot_product_attention(queries, keys, values, scale=1 / LOG2_E)
    messages = _none(queries)
    for head in _heads(queries, keys):
        messages[head] = _messages(queries[head], keys[head], values[head])
    return messages


def attend_both(
    keys0: Tensor,
    keys1: Tensor,
    values0: Tensor,
    values1: Tensor,
    counts: Sequence[tuple[int, int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the messages of two sets for each other, whose keys are their queries as well.

    Both directions share the product of their keys and its powers where they are computed by parts.

    Args:
        keys0, values0: (B, H, N, D) float, of H heads; logits are to base 2.
        keys1, values1: (B, H, M, D).
        counts: B numbers of keys of each set, as in :func:`attend`.

    Returns:
        (B, H, N, D) messages of softmax(keys0 keys1^T) values1, and (B, H, M, D) back.
    """
    if counts is not None:
        back = [(m, n) for n, m in counts]
        return attend(keys0, keys1, values1, counts), attend(keys1, keys0, values0, back)
    if not _by_parts(keys0):
        return attend(keys0, keys1, values1), attend(keys1, keys0, values0)
    messages0, messages1 = _none(keys0), _none(keys1)
    for head in _heads(keys0, keys1):
        found = _both_messages(keys0[head], keys1[head], values0[head], values1[head])
        messages0[head], messages1[head] = found
    return messages0, messages1


def _by_parts(queries: Tensor) -> bool:
    """Tell whether this module is faster than torch's attention, which has its own kernels."""
    return queries.device.type == "cpu" and queries.dtype == torch.bfloat16


def _none(queries: Tensor) -> Tensor:
    """Return messages of nothing, in memory in which a query's heads are one after the other."""
    return queries.new_zeros(queries.transpose(1, 2).shape).transpose(1, 2)


def _heads(queries: Tensor, keys: Tensor) -> list[tuple[int, int]]:
    """Return the indices of heads with work to do."""
    if 0 in (queries.shape[2], keys.shape[2]):
        return []
    return list(product(range(queries.shape[0]), range(queries.shape[1])))


def _messages(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the (N, D) messages of one head."""
    messages = torch.empty_like(queries)
    for rows, logits in _logits(*_shifted(queries, keys)):
        weights = logits.exp2_()
        sums = weights.sum(1)
        if not sums.min() > _LEAST_SUM:
            return _wide_messages(queries, keys, values)
        torch.div(weights @ values, sums[:, None], out=messages[rows])
    return messages


def _both_messages(
    keys0: Tensor, keys1: Tensor, values0: Tensor, values1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the (N, D) and (M, D) messages of one head."""
    messages = torch.empty_like(keys0)
    back = keys1.new_zeros(keys1.shape, dtype=torch.float32)
    sums_back = back.new_zeros(len(keys1))
    for rows, logits in _logits(*_shifted(keys0, keys1)):
        weights = logits.exp2_()
        sums = weights.sum(1)
        if not sums.min() > _LEAST_SUM:
            messages = _wide_messages(keys0, keys1, values1)
            return messages, _wide_messages(keys1, keys0, values0)
        torch.div(weights @ values1, sums[:, None], out=messages[rows])
        back += weights.T @ values0[rows]
        sums_back += weights.sum(0)
    if not sums_back.min() > _LEAST_SUM:
        return messages, _wide_messages(keys1, keys0, values0)
    return messages, (back / sums_back[:, None]).to(keys1)


def _wide_messages(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the messages of one head whose logits span more than the exponents of bfloat16."""
    messages = torch.empty_like(queries)
    for rows, logits in _logits(queries, keys):
        weights = logits.sub_(logits.amax(1, keepdim=True)).exp2_()
        messages[rows] = weights @ values / weights.sum(1, keepdim=True)
    return messages


def _shifted(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, D + 2) queries and (M, D + 2) keys, whose largest product is at most ``_LARGEST``.

    What is subtracted is a part of the product, so that it is rounded once. The last of them is
    zero: products in bfloat16 take pairs.
    """
    # Cauchy-Schwarz.
    largest = queries.norm(dim=1).amax() * keys.norm(dim=1).amax()
    shift = (largest - _LARGEST).clamp(min=0)
    queries = torch.cat(
        [queries, -shift.expand(len(queries), 1), queries.new_zeros(len(queries), 1)], 1
    )
    return queries, F.pad(F.pad(keys, (0, 1), value=1.0), (0, 1))


def _logits(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield some rows, and their products with all keys, in memory that the next rows reuse."""
    step = max(1, _ELEMENTS // len(keys))
    memory = queries.new_empty(min(len(queries), step), len(keys))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        some = queries[rows]
        yield rows, torch.mm(some, keys.T, out=memory[: len(some)])
