"""A photo in memory is prepared as one on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import read_image
from disk_hloc.io.loader import load_photo, prepare
from disk_hloc.io.masks import Masks


@pytest.mark.parametrize(
    "preprocessing",
    [
        {},
        {"resize_max": 40},
        {"resize_max": 100, "resize_force": True},
        {"grayscale": True, "resize_max": 40, "interpolation": "cv2_linear"},
    ],
)
@pytest.mark.parametrize("turn", [0, 1])
def test_as_from_a_file(preprocessing: dict[str, Any], turn: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.ones((48, 64), bool)
    mask[:20] = False
    Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / "mask.png")
    sources = Masks({"file": tmp_path / "mask.png"})
    loaded = load_photo(tmp_path, "a.png", preprocessing, sources, turn)
    stored = read_image(tmp_path / "a.png", bool(preprocessing.get("grayscale")))
    found = prepare("a.png", stored, preprocessing, mask, turn)
    np.testing.assert_array_equal(found.image, loaded.image)
    np.testing.assert_array_equal(found.mask, loaded.mask)
    assert found.image.dtype == np.float32
    assert (found.name, found.original_size, found.turn) == ("a.png", (64, 48), turn)
    assert found.resized_size == loaded.resized_size
    assert prepare("a.png", stored, preprocessing, np.ones((48, 64), bool)).mask is None


def test_an_impossible_value_is_an_error() -> None:
    with pytest.raises(DiskHlocError, match="resize_max"):
        prepare("a.png", np.zeros((4, 4, 3), np.uint8), {"resize_max": -1})
