"""How probable it is that a number of trials, or more, succeed by chance.

``scipy.stats`` has it, too, but takes most of a second to import, in each process that COLMAP runs
in.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc


def log10_tail(least: int, num: int, rate: float) -> float:
    """Return the logarithm of the probability that ``least`` or more of ``num`` trials succeed.

    Args:
        least: 0 or fewer succeed for certain.
        num: of trials, at least ``least``.
        rate: the probability of one, from 0 to 1.

    Returns:
        The logarithm to base 10; -inf for a probability that is too small for a float64.
    """
    if least <= 0:
        return 0.0
    with np.errstate(divide="ignore"):
        return float(np.log10(betainc(least, num - least + 1, rate)))
