"""The schedules, compared with those of DISK's release."""

from __future__ import annotations

import pytest

from disk_hloc.train.schedule import inverse_temperature, learning_rate, penalty_ramp


def test_penalties_increase_as_in_the_release() -> None:
    ramps = [penalty_ramp(epoch) for epoch in range(8)]
    assert ramps == pytest.approx([0, 0.1, 0.5, 0.7, 0.9, 1, 1, 1])


def test_the_temperature_is_annealed_over_twenty_epochs() -> None:
    assert [inverse_temperature(epoch) for epoch in (0, 1, 10, 20, 49)] == [15, 16.75, 32.5, 50, 50]
    assert inverse_temperature(1, (15, 25), 10) == 16
    assert inverse_temperature(0, (15, 60), 0) == 60


def test_the_learning_rate_depends_on_the_epoch_alone() -> None:
    rates = [learning_rate(epoch, 1e-3, [2, 4], 0.1) for epoch in range(6)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert learning_rate(50, 0.25, [], 0.1) == 0.25
