"""Covisibility by points and by depth, and the choice of tuples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.dataset import covisibility
from disk_hloc.dataset.covisibility import choose_tuples, shared_points, shared_surface
from disk_hloc.errors import DiskHlocError
from support.errors import one_line_error

sets = st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=7)


@given(sets)
def test_the_ratio_is_of_the_image_that_sees_less(observed):
    ratio = shared_points([np.array(one, np.int64) for one in observed])
    assert ratio.shape == (len(observed),) * 2
    for i, j in itertools.product(range(len(observed)), repeat=2):
        a, b = set(observed[i]), set(observed[j])
        expected = 0 if i == j or not a or not b else len(a & b) / min(len(a), len(b))
        assert ratio[i, j] == pytest.approx(expected)


@st.composite
def ratios(draw):
    count = draw(st.integers(2, 9))
    values = draw(st.lists(st.floats(0, 1), min_size=count * count, max_size=count * count))
    ratio = np.array(values).reshape(count, count)
    return np.triu(ratio, 1) + np.triu(ratio, 1).T


@given(ratios(), st.integers(2, 4), st.sampled_from([(0.5, 0.8), (0.1, 0.9), (0.0, 1.0)]))
def test_all_tuples_whose_pairs_are_within_the_range(ratio, size, within):
    expected = [
        list(one)
        for one in itertools.combinations(range(len(ratio)), size)
        if all(
            within[0] <= ratio[i, j] <= within[1] and ratio[i, j] > 0
            for i, j in itertools.combinations(one, 2)
        )
    ]
    if not expected:
        with pytest.raises(DiskHlocError, match="covisibility ratios"):
            choose_tuples(ratio, within=within, size=size)
        return
    assert choose_tuples(ratio, within=within, size=size) == expected
    assert choose_tuples(ratio, within=within, size=size, limit=None) == expected


@settings(max_examples=40)
@given(st.integers(0, 5), st.sampled_from([2, 3, 4]), st.booleans())
def test_of_too_many_tuples_some_are_chosen_by_the_seed(seed, size, drawn):
    ratio = np.full((12, 12), 0.6)
    before = covisibility._MAX_LISTED_TUPLES
    covisibility._MAX_LISTED_TUPLES = 3 if drawn else before
    try:
        chosen = choose_tuples(ratio, size=size, limit=20, seed=seed)
        again = choose_tuples(ratio, size=size, limit=20, seed=seed)
        other = choose_tuples(ratio, size=size, limit=20, seed=seed + 1)
    finally:
        covisibility._MAX_LISTED_TUPLES = before
    assert chosen == again != other
    assert len({tuple(one) for one in chosen}) == len(chosen) == 20
    assert all(len(set(one)) == size and one == sorted(one) for one in chosen)


def test_invalid_options_and_images_with_nothing_in_common_are_errors():
    ratio = np.zeros((4, 4))
    for options in ({"size": 1}, {"within": (0.8, 0.5)}, {"limit": 0}):
        with pytest.raises(DiskHlocError, match="at least two images"):
            choose_tuples(ratio, **options)
    with pytest.raises(DiskHlocError) as error:
        choose_tuples(ratio)
    assert one_line_error(error, "no tuple of 3 of the 4 images", "0 of 6 pairs", "another range")


def test_the_ratio_of_two_cameras_in_front_of_a_wall():
    # The wall is 4 units away and a pixel is 0.1 units: 20 of 100 pixels are 2 units.
    matrix = np.array([[40, 0, 50], [0, 40, 30], [0, 0, 1.0]])
    wall = np.full((60, 100), 4.0, np.float32)
    poses = [np.column_stack([np.eye(3), [-x, 0, 0]]) for x in (0.0, 2.0, 5.0)]
    ratio = shared_surface([wall] * 3, [matrix] * 3, poses, step=1)
    assert ratio == pytest.approx(np.array([[0, 0.8, 0.5], [0.8, 0, 0.7], [0.5, 0.7, 0]]))
    # An object in front of the wall hides a tenth of it from one camera.
    hidden = wall.copy()
    hidden[:, :10] = 1
    ratio = shared_surface([wall, hidden], [matrix] * 2, poses[:1] * 2, step=1)
    assert ratio[0, 1] == pytest.approx(0.9)
    # The longer lens sees a quarter of what the other one sees; the larger ratio is used.
    longer = np.array([[80, 0, 50], [0, 80, 30], [0, 0, 1.0]])
    assert shared_surface([wall] * 2, [matrix, longer], poses[:1] * 2, step=1)[0, 1] == 1
    assert shared_surface([wall, 0 * wall], [matrix] * 2, poses[:2])[0, 1] == 0
