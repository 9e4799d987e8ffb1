"""Photos as they are given: files and folders, and what is known of their cameras."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.query_photos import find_photos, known_cameras
from support.errors import one_line_error

PINHOLE = "PINHOLE 50,50,24,16"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("day/2.jpg", "day/10.jpg", "day/masks/2.jpg.png", "night/2.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 32)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_alone_has_names_below_it(folder: Path) -> None:
    found = find_photos([Path("day")], without=[Path("day/masks")])
    assert list(found.items()) == [
        ("2.jpg", Path("day/2.jpg")), ("10.jpg", Path("day/10.jpg")),
    ]  # fmt: skip


def test_what_has_one_name_is_told_apart_by_its_folder(folder: Path) -> None:
    found = find_photos([Path("night/2.jpg"), Path("day/2.jpg"), folder / "night"])
    assert list(found) == ["night/2.jpg", "day/2.jpg"]
    assert list(find_photos([Path("day/missing.jpg")])) == ["missing.jpg"]


def test_nothing_to_find(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DiskHlocError, match="no photos given"):
        find_photos([])
    with pytest.raises(DiskHlocError, match="no image in"):
        find_photos([Path("empty")])


def test_cameras(folder: Path) -> None:
    photos = find_photos([Path("day/2.jpg"), Path("day/10.jpg")])
    assert known_cameras(photos) == {"2.jpg": None, "10.jpg": None}
    assert known_cameras(photos, PINHOLE) == {"2.jpg": PINHOLE, "10.jpg": PINHOLE}
    Path("list.txt").write_text("10.jpg PINHOLE 48 32 50 50 24 16\n")
    known = known_cameras(photos, queries=Path("list.txt"))
    assert list(known) == ["10.jpg"]
    Path("list.txt").write_text("night/10.jpg PINHOLE 48 32 50 50 24 16\n")
    with pytest.raises(DiskHlocError) as error:
        known_cameras(photos, queries=Path("list.txt"))
    assert one_line_error(error, "list.txt names 1 photos", "night/10.jpg", "give the folder")


def test_one_camera_is_of_one_size(folder: Path) -> None:
    Image.new("RGB", (32, 48)).save("day/3.jpg")
    Path("day/1.jpg").write_text("no photo")
    with pytest.raises(DiskHlocError) as error:
        known_cameras(find_photos([Path("day")]), PINHOLE)
    assert one_line_error(error, "day/2.jpg has 48 x 32", "day/3.jpg has 32 x 48")
