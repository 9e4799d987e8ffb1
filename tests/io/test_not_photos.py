"""Masks, blank pictures and thumbnails among photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from disk_hloc.io.images import list_images, read_image
from disk_hloc.io.not_photos import oddity, thumbnails


def as_read(path: Path) -> np.ndarray:
    return read_image(path).transpose(2, 0, 1).astype(np.float32) / 255


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_mask_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    mask = np.zeros((120, 160), np.uint8)
    cv2.circle(mask, (70, 60), 30, 255, -1)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), mask)
    assert oddity(as_read(tmp_path / f"a.{suffix}")) == "black and white, as masks are"


def test_one_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 40, 3), (10, 200, 90), np.uint8))
    assert oddity(as_read(tmp_path / "a.png")) == "of one colour"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_of_which_the_lower_12_are_used(tmp_path: Path, data: Path, suffix: str) -> None:
    photo = cv2.imread(str(data / "fountain_p11/images/0004.jpg"))[::4, ::4]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), photo.astype(np.uint16) * 16)
    said = oddity(as_read(tmp_path / f"a.{suffix}"))
    assert said is not None
    assert said.startswith(("nearly black, up to 15 of 255", "nearly black, up to 16 of 255"))
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), photo.astype(np.uint16) * 256)
    assert oddity(as_read(tmp_path / f"a.{suffix}")) is None


def test_real_photos_are_photos(data: Path) -> None:
    folder = data / "folders" / "lund" / "images"
    for name in list_images(folder)[::6]:
        assert oddity(as_read(folder / name)) is None


def test_thumbnails_are_far_smaller_than_the_others() -> None:
    sizes = {"a.jpg": (4000, 3000), "b.jpg": (3000, 4000), "c.jpg": (1024, 768), "t.png": (160, 90)}
    assert thumbnails(sizes) == {"t.png": "160x90 px, far smaller than the others"}
    assert thumbnails({}) == {}
