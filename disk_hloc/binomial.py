"""How probable it is that a number of trials, or more, succeed by chance.

``scipy.stats`` and ``scipy.special`` have it, too, but take 0.6 and 0.15 s to import, in each
process that COLMAP runs in.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def log10_tail(least: int, num: int, rate: float) -> float:
    """Return the logarithm of the probability that ``least`` or more of ``num`` trials succeed.

    Args:
        least: 0 or fewer succeed for certain.
        num: of trials, at least ``least``.
        rate: the probability of one, above 0, at most 1.

    Returns:
        The logarithm to base 10, at most 0.
    """
    if least <= 0 or rate >= 1:
        return 0.0
    successes = np.arange(least, num + 1)
    # Powers of two, so that few tables are made.
    factorials = _log_factorials(1 << num.bit_length())
    logs = (
        factorials[num]
        - factorials[successes]
        - factorials[num - successes]
        + successes * math.log(rate)
        + (num - successes) * math.log1p(-rate)
    )
    largest = logs.max()
    logarithm = largest + math.log(np.exp(logs - largest).sum())
    return min(float(logarithm) / math.log(10), 0.0)


@lru_cache(32)
def _log_factorials(size: int) -> np.ndarray:
    """Return the natural logarithms of 0!, 1!, ..., (size - 1)!."""
    return np.concatenate([[0.0], np.log(np.arange(1, size)).cumsum()])
