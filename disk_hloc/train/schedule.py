"""Schedules over epochs, as in DISK's release (section 4 of the paper, "Optimization").

Epochs are counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence


def penalty_ramp(epoch: int) -> float:
    """Return the factor of the penalties in an epoch: 0, 0.1, 0.5, 0.7, 0.9, then 1.

    A randomly initialized network matches so badly that with full penalties it would soon learn to
    detect nothing.
    """
    if epoch < 2:
        return 0.1 * epoch
    return min(1.0, 0.1 + 0.2 * epoch)


def inverse_temperature(epoch: int, ends: Sequence[float] = (15, 50), epochs: int = 20) -> float:
    """Return theta_M of an epoch, which changes linearly between ``ends`` over ``epochs``."""
    start, stop = ends
    return start + (stop - start) * min(1.0, epoch / epochs)
