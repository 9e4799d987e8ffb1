"""Which points of several models are one, and which of them has a keypoint."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.stages.joining import same_points


def tracks(observed: list[list[int]], part_of: list[int]) -> list[int]:
    """Return the track of each point, of the keypoints that each observes."""
    keys = np.concatenate([np.array(one, int) for one in observed])
    point_of = np.repeat(np.arange(len(observed)), [len(one) for one in observed])
    return same_points(keys, point_of, np.array(part_of)).tolist()


def test_a_wrong_observation_does_not_join_two_points() -> None:
    first, second = [0, 1, 2, 3], [10, 11, 12, 13]
    # Keypoint 13 is the second point's in one model, and the first point's in the other.
    assert tracks([first, second, [*first, 13], second[:3]], [0, 0, 1, 1]) == [0, 1, 0, 1]


def test_a_point_of_three_models_is_one() -> None:
    # The first and the last model share nothing.
    assert tracks([[0, 1], [1, 2], [2, 3], [9]], [0, 1, 2, 2]) == [0, 0, 0, 1]


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, unique=True), min_size=1, max_size=12))
def test_two_models_have_a_point_once_each(observed) -> None:
    """A point is one with at most one of another model."""
    part_of = [i % 2 for i in range(len(observed))]
    # Within a model a keypoint has one point.
    for part in (0, 1):
        taken: set[int] = set()
        for i in range(part, len(observed), 2):
            observed[i] = [key for key in observed[i] if key not in taken]
            taken.update(observed[i])
    found = tracks(observed, part_of)
    for part in (0, 1):
        inside = found[part::2]
        assert len(set(inside)) == len(inside)
