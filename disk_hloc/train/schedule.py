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
    """Return theta_M of an epoch, which changes linearly between ``ends`` over ``epochs``.

    Without epochs to change in, it is the last of ``ends`` from the start.
    """
    start, stop = ends
    if epochs == 0:
        return stop
    return start + (stop - start) * min(1.0, epoch / epochs)


def learning_rate(epoch: int, rate: float, decay_epochs: Sequence[int], decay: float) -> float:
    """Return the learning rate of an epoch.

    It depends on the number of the epoch alone, so a run that is resumed goes on with the same.

    Args:
        epoch: number of the epoch.
        rate: at the start.
        decay_epochs: epochs from which on the rate is multiplied by ``decay`` once more.
        decay: the factor.
    """
    return rate * decay ** sum(epoch >= one for one in decay_epochs)
