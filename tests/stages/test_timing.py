"""The time of a stage over several runs, also of runs that were stopped or killed."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest

from disk_hloc.stages.timing import record_path, recorded, timed, total


def test_an_error_leaves_no_time() -> None:
    seconds: dict[str, float] = {}
    with timed(seconds, "match"):
        time.sleep(0.03)
    with pytest.raises(ValueError, match="x"), timed(seconds, "map"):
        raise ValueError("x")
    assert list(seconds) == ["match"]
    assert seconds["match"] >= 0.02


def test_times_of_runs_that_were_stopped_add_up(tmp_path: Path) -> None:
    target = tmp_path / "matches.h5"
    with suppress(KeyboardInterrupt), recorded(target, {"a": 1}) as first:
        target.write_text("some")
        time.sleep(0.05)
        raise KeyboardInterrupt
    assert first.seconds is not None
    with recorded(target, {"a": 1}) as second:
        assert not second.done
        time.sleep(0.05)
    assert second.seconds is not None
    assert second.seconds >= first.seconds + 0.04
    with recorded(target, {"a": 1}) as third:
        assert third.done
    assert third.seconds == second.seconds
    with recorded(target, {"a": 2}) as other:
        assert not other.done


def test_after_a_kill_the_time_is_unknown(tmp_path: Path) -> None:
    target = tmp_path / "matches.h5"
    target.write_text("some")
    with recorded(target, {}) as record:
        assert not record_path(target).exists()
        assert record.seconds is None
    with recorded(target, {}) as again:
        assert again.done
        assert again.seconds is None


@pytest.mark.parametrize(
    ("seconds", "expected"), [([1.254, 2.0], 3.25), ([1.0, None, 2.0], None), ([], 0)]
)
def test_a_sum_with_an_unknown_time_is_unknown(
    seconds: list[float | None], expected: float | None
) -> None:
    assert total(seconds) == expected
