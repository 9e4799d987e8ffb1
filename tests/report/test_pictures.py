"""Pictures of matches and of masks."""

from __future__ import annotations

import numpy as np

from disk_hloc.report.drawing import BAD_COLOR, GOOD_COLOR
from disk_hloc.report.mask_pictures import TINT, photo_with_mask
from disk_hloc.report.pair_picture import PAIR_HEIGHT, photos_with_matches


def near(drawn: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(drawn.astype(int) - color).max(axis=-1) < 60


def test_matches_join_their_keypoints_in_both_photos() -> None:
    photos = [
        np.zeros((PAIR_HEIGHT, 400, 3), np.uint8),
        np.zeros((2 * PAIR_HEIGHT, 400, 3), np.uint8),
    ]
    keypoints = [np.array([[50.0, 100], [50, 200]]), np.array([[300.0, 401], [300, 201]])]
    # The second photo is drawn at half its size.
    matches, good = np.array([[0, 1], [1, 0]]), np.array([True, False])
    drawn = np.asarray(photos_with_matches(photos, keypoints, matches, good))
    assert drawn.shape == (PAIR_HEIGHT, 400 + 200, 3)
    for y, color in ((100, GOOD_COLOR), (200, BAD_COLOR)):
        assert near(drawn[y, 50], color)
        assert near(drawn[y, 400 + 150], color)
        line = drawn[y - 1 : y + 2, 100:500].astype(int).max(axis=0)
        assert line[:, int(np.argmax(color))].min() > 60
    few = np.asarray(photos_with_matches(photos, keypoints, matches[[0, 0]], good[[0, 0]], every=2))
    assert near(few[100, 50], GOOD_COLOR)


def test_masked_regions_are_tinted_and_keypoints_say_whether_they_are_kept() -> None:
    photo = np.full((40, 60, 3), 100, np.uint8)
    keep = np.ones((40, 60), bool)
    keep[:, 30:] = False
    drawn = np.asarray(photo_with_mask(photo, keep, np.array([[10.0, 20], [50, 20]])))
    assert tuple(drawn[20, 10]) == GOOD_COLOR
    assert tuple(drawn[20, 50]) == BAD_COLOR
    assert (drawn[:, 20] == 100).all()
    np.testing.assert_array_equal(drawn[0, 40], (50 + np.array(TINT) / 2).astype(int))
