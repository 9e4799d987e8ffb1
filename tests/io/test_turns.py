"""Turned photos: keypoints come back to where they are in the stored photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.io.loader import Photo, in_original, load_photo
from disk_hloc.io.turns import turned, turned_back

SIDES = st.integers(1, 40)
QUARTERS = st.integers(0, 3)


@given(SIDES, SIDES, QUARTERS)
def test_a_pixel_comes_back_to_its_place(width: int, height: int, quarters: int) -> None:
    image = np.arange(width * height).reshape(height, width)
    seen = turned(image, quarters)
    y, x = np.indices(seen.shape).reshape(2, -1)
    back = turned_back(np.stack([x, y], axis=1), quarters, (width, height))
    np.testing.assert_array_equal(image[back[:, 1], back[:, 0]], seen.ravel())


@given(
    st.integers(1, 8000),
    st.integers(1, 8000),
    st.lists(st.tuples(*[st.floats(0, 1)] * 2)),
    QUARTERS,
)
def test_quarters_are_undone_one_after_the_other(
    width: int, height: int, parts: list[tuple[float, float]], quarters: int
) -> None:
    """Each is a rotation about the middle of the photo, also of places between pixels."""
    sizes = [(height, width) if step % 2 else (width, height) for step in range(4)]
    points = np.array(parts).reshape(-1, 2) * (np.array(sizes[quarters]) - 1)
    once = points = points.astype(np.float32)
    for step in reversed(range(quarters)):
        middle, before = ((np.array(sizes[i % 4]) - 1) / 2 for i in (step, step + 1))
        from_middle = once - before
        once = turned_back(once, 1, sizes[step])
        # y points down, so that counter-clockwise is undone by (x, y) -> (-y, x).
        clockwise = np.stack([-from_middle[:, 1], from_middle[:, 0]], axis=1)
        np.testing.assert_allclose(once - middle, clockwise, atol=2e-3)
    at_once = turned_back(points, quarters, sizes[0])
    assert at_once.dtype == np.float32
    np.testing.assert_allclose(at_once, once, atol=2e-3)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("resize_max", [None, 30])
def test_a_photo_is_turned_after_it_is_resized(
    tmp_path: Path, quarters: int, resize_max: int | None
) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, (41, 60, 3), dtype=np.uint8))
    conf = {"resize_max": resize_max}
    upright = load_photo(tmp_path, "a.png", conf)
    photo = load_photo(tmp_path, "a.png", conf, turn=quarters)
    np.testing.assert_array_equal(photo.image, np.rot90(upright.image, quarters, axes=(1, 2)))
    assert photo.image.flags.c_contiguous
    assert photo.original_size == (60, 41)
    assert photo.resized_size == upright.resized_size
    assert photo.turn == quarters


@given(SIDES, SIDES, QUARTERS, st.sampled_from([1, 2, 3.7]))
def test_keypoints_are_those_of_the_photo_that_was_not_turned(
    width: int, height: int, quarters: int, scale: float
) -> None:
    rng = np.random.default_rng(width * 41 + height)
    points = (rng.random((20, 2)) * (width, height) - 0.5).astype(np.float32)
    size = round(width * scale), round(height * scale)
    image = np.zeros((3, height, width), np.float32)
    upright = Photo("a", image, size)
    photo = Photo("a", turned(image, quarters), size, turn=quarters)
    # Turning on to four quarters is turning back.
    shape = photo.image.shape[:0:-1]
    seen = turned_back(points, (4 - quarters) % 4, (shape[0], shape[1]))
    np.testing.assert_allclose(in_original(photo, seen), in_original(upright, points), atol=1e-4)
