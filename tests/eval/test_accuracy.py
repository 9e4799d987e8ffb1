"""Errors of relative poses and their figures, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.eval.accuracy import auc, mean_accuracy, pose_error

IDENTITY = np.eye(3)


def turn_about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("rotation", "translation", "expected"),
    [
        (IDENTITY, [1, 0, 0], 0),
        (IDENTITY, [5, 0, 0], 0),
        (IDENTITY, [-2, 0, 0], 0),
        (IDENTITY, [1, 1, 0], 45),
        (IDENTITY, [0, 0, 1], 90),
        (turn_about_z(30), [1, 0, 0], 30),
        (turn_about_z(-170), [1, 0, 0], 170),
        (turn_about_z(10), [1, np.tan(np.radians(25)), 0], 25),
        (turn_about_z(40), [-1, np.tan(np.radians(25)), 0], 40),
    ],
)
def test_the_error_is_the_greater_of_two_angles(rotation, translation, expected) -> None:
    error = pose_error(rotation, np.array(translation), IDENTITY, np.array([3.0, 0, 0]))
    assert error == pytest.approx(expected, abs=1e-9)


def test_small_errors_are_exact() -> None:
    error = pose_error(turn_about_z(1e-6), np.array([1, 0, 0]), IDENTITY, np.eye(3)[0])
    assert error == pytest.approx(1e-6, rel=1e-6)


def test_mean_accuracy_by_hand() -> None:
    errors = np.array([0.5, 3.0, 7.2, np.inf])
    # Within 1, 2: one of four; 3, 4, 5, 6, 7: two; 8, 9, 10: three.
    assert mean_accuracy(errors, 10) == pytest.approx((2 * 1 + 5 * 2 + 3 * 3) / 40)
    assert mean_accuracy(errors, 5) == pytest.approx((2 * 1 + 3 * 2) / 20)
    # Of 0.1, ..., 1.0 six are at least 0.5.
    assert mean_accuracy(errors, 1) == pytest.approx(6 / 40)
    # Of 0.2, 0.4, ..., 2.0 eight.
    assert mean_accuracy(errors, 2) == pytest.approx(8 / 40)
    assert np.isnan(mean_accuracy(np.array([]), 10))


def test_area_by_hand() -> None:
    assert auc(np.array([0.0, 5.0, 10.0, np.inf]), 10) == pytest.approx(1.5 / 4)
    assert np.isnan(auc(np.array([]), 5))


ERRORS = st.lists(st.floats(0, 180) | st.just(np.inf), min_size=1, max_size=40).map(np.array)


@given(ERRORS, st.sampled_from([1, 2, 5, 10, 20]))
def test_accuracy_and_area_bracket_each_other(errors, limit) -> None:
    """The accuracy is a sum over steps of the area's integrand, taken at their ends."""
    step = 1 / (limit if limit >= 5 else 10)
    area, accuracy = auc(errors, limit), mean_accuracy(errors, limit)
    assert area - 1e-9 <= accuracy <= area + step + 1e-9


@given(ERRORS, st.sampled_from([5, 10, 20]))
def test_area_against_superglues_formula(errors, limit) -> None:
    """Theirs joins the steps, by at most a step of one over the number of errors."""
    ordered = np.concatenate([[0], np.sort(errors)])
    recall = np.arange(len(ordered)) / len(errors)
    last = np.searchsorted(ordered, limit)
    x, y = np.append(ordered[:last], limit), np.append(recall[:last], recall[max(last - 1, 0)])
    theirs = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / limit
    assert theirs - 0.5 / len(errors) - 1e-9 <= auc(errors, limit) <= theirs + 1e-9
