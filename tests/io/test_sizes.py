"""Sizes that several files state."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.sizes import photo_sizes, require_same_sizes, require_shared_cameras
from support.errors import one_line_error


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, size in {"a/0.png": (8, 6), "a/1.png": (8, 6), "b/2.png": (6, 8)}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", size).save(path)
    (tmp_path / "b" / "broken.png").write_text("no image")
    return tmp_path


NAMES = ["a/0.png", "a/1.png", "b/2.png", "b/broken.png"]


def test_both_sources_and_both_sizes_are_named(photos: Path) -> None:
    sizes = photo_sizes(photos, NAMES)
    assert sizes == {"a/0.png": (8, 6), "a/1.png": (8, 6), "b/2.png": (6, 8)}
    require_same_sizes(sizes, "photos", {"a/0.png": (8, 6), "c.png": (1, 1)}, "list.txt")
    with pytest.raises(DiskHlocError) as error:
        require_same_sizes(sizes, "the photos", {"b/2.png": (60, 80)}, "the cameras of list.txt")
    assert one_line_error(
        error, "the cameras of list.txt and the photos", "1 images", "b/2.png (60 x 80 and 6 x 8)"
    )


def test_photos_that_share_a_camera_have_one_size(photos: Path) -> None:
    for mode in ("auto", "per-image", "per-folder"):
        require_shared_cameras(photos, NAMES, mode)
    with pytest.raises(DiskHlocError) as error:
        require_shared_cameras(photos, NAMES, "single")
    assert one_line_error(error, photos, "2 have 8 x 6", "b/2.png (6 x 8)", "--camera-mode auto")
    Image.new("L", (5, 5)).save(photos / "a" / "3.png")
    with pytest.raises(DiskHlocError) as error:
        require_shared_cameras(photos, [*NAMES, "a/3.png"], "per-folder")
    assert one_line_error(error, photos / "a", "a/3.png (5 x 5)")
