"""What pictures are drawn with, looked at pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from disk_hloc.errors import DiskHlocError
from disk_hloc.report.drawing import (
    BACKGROUND,
    ZOOM,
    dimmed,
    draw_dots,
    draw_lines,
    read_photo,
    shrunk,
    side_by_side,
    to_image,
)
from support.errors import one_line_error

RED, BLUE = (255, 0, 0), (0, 0, 255)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_dots_are_centred_on_their_pixels() -> None:
    image = Image.new("RGB", (40, 30))
    draw_dots(ImageDraw.Draw(image), np.array([[10.0, 20], [30, 5]]), [RED, BLUE], radius=2)
    drawn = pixels(image)
    for (x, y), color in (((10, 20), RED), ((30, 5), BLUE)):
        rows, columns = np.nonzero((drawn == color).all(axis=2))
        assert (columns.mean(), rows.mean()) == (x, y)
        assert (columns.min(), columns.max()) == (x - 2, x + 2)
        assert (rows.min(), rows.max()) == (y - 2, y + 2)


def test_a_dot_may_have_an_edge_and_there_may_be_none() -> None:
    image = Image.new("RGB", (20, 20), (9, 9, 9))
    draw_dots(ImageDraw.Draw(image), np.zeros((0, 2)), RED, radius=2)
    assert (pixels(image) == 9).all()
    draw_dots(ImageDraw.Draw(image), np.array([[10, 10]]), RED, radius=3, outline=BLUE)
    assert pixels(image)[10, 10].tolist() == list(RED)
    assert pixels(image)[10, 7].tolist() == list(BLUE)


def test_lines_have_their_own_colours() -> None:
    image = Image.new("RGB", (40, 30))
    starts, ends = np.array([[0.0, 3], [5, 10]]), np.array([[39.0, 3], [5, 29]])
    draw_lines(ImageDraw.Draw(image), starts, ends, [RED, BLUE])
    drawn = pixels(image)
    assert (drawn[3] == RED).all()
    assert (drawn[10:30, 5] == BLUE).all()
    assert drawn.any(axis=2).sum() == 40 + 20


def test_photos_of_different_heights_are_side_by_side() -> None:
    first, second = np.full((4, 6, 3), 10, np.uint8), np.full((8, 3, 3), 20, np.uint8)
    row, lefts = side_by_side([to_image(first), to_image(second)], BACKGROUND)
    assert lefts == [0, 6]
    drawn = pixels(row)
    assert drawn.shape == (8, 9, 3)
    assert (drawn[:4, :6] == 10).all()
    assert (drawn[:, 6:] == 20).all()
    assert (drawn[4:, :6] == BACKGROUND).all()


def test_dimmed_goes_towards_the_background() -> None:
    white = Image.new("RGB", (2, 2), (255, 255, 255))
    np.testing.assert_allclose(
        pixels(dimmed(white, 0.5))[0, 0], (255 + np.array(BACKGROUND)) / 2, atol=1
    )
    assert (pixels(dimmed(white, 1.0)) == BACKGROUND).all()


def test_shrunk_undoes_the_zoom() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    large = to_image(photo.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))
    assert shrunk(large).size == (7, 5)


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DiskHlocError) as error:
        read_photo(tmp_path / "a.png")
    assert one_line_error(error, tmp_path / "a.png", "cannot be read")
