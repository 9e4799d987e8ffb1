"""Photos of a kind get what COLMAP makes of two of them; COLMAP itself is the reference."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pycolmap
import pytest
from PIL import ExifTags, Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap.import_photos import by_colmap, groups_of, import_photos
from support.errors import one_line_error

TAGS = ExifTags.Base
PHONE = {TAGS.Make: "Maker", TAGS.Model: "Phone", TAGS.FocalLengthIn35mmFilm: 28}
ZOOMED = {**PHONE, TAGS.FocalLengthIn35mmFilm: 56}
NAMELESS = {TAGS.FocalLength: 4.3, TAGS.FocalLengthIn35mmFilm: 26}


def write(path: Path, tags: dict[Any, Any], size: tuple[int, int] = (96, 64)) -> None:
    exif = Image.Exif()
    block = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in tags.items():
        of_image = tag in (TAGS.Make, TAGS.Model, TAGS.Orientation)
        (exif if of_image else block)[tag] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(path, exif=exif)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of several cameras in turn, in two folders."""
    kinds = [PHONE, ZOOMED, NAMELESS, {}, {**PHONE, TAGS.Orientation: 6}]
    for number in range(20):
        suffix = ("jpg", "png", "jpg")[number % 3]
        name = f"{'left' if number < 9 else 'right'}/{number:02}.{suffix}"
        write(tmp_path / "photos" / name, kinds[number % 5])
    return tmp_path / "photos"


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that a database holds, without positions of pose priors."""
    with closing(sqlite3.connect(path)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {name: database.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}
        columns = [row[1] for row in database.execute("PRAGMA table_info(pose_priors)")]
    positions = {columns.index(name) for name in ("position", "coordinate_system")}
    rows["pose_priors"] = [
        tuple(value for number, value in enumerate(row) if number not in positions)
        for row in rows["pose_priors"]
    ]
    return rows


def assert_as_by_colmap(folder: Path, mode: str, tmp_path: Path) -> None:
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    groups = [(sharing, group, {}) for sharing, group in groups_of(folder, names, mode, None)]
    for name, function in (("expected.db", by_colmap), ("found.db", import_photos)):
        with pycolmap.Database.open(tmp_path / name):
            pass
        function(tmp_path / name, folder, groups)
    expected = tables(tmp_path / "expected.db")
    assert len(expected["images"]) == len(names)
    assert tables(tmp_path / "found.db") == expected


@pytest.mark.parametrize("mode", ["auto", "single", "per-folder", "per-image"])
def test_the_database_is_that_of_colmap(folder: Path, mode: str, tmp_path: Path) -> None:
    assert_as_by_colmap(folder, mode, tmp_path)


@pytest.mark.parametrize("name", ["lund", "brighton", "berlin"])
def test_real_photos(data: Path, name: str, tmp_path: Path) -> None:
    assert_as_by_colmap(data / "folders" / name / "images", "auto", tmp_path)


def test_two_photos_of_a_kind_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"a": PHONE, "b": ZOOMED, "c": {}}
    names = [f"{kind}{number}.jpg" for number in range(5) for kind in kinds]
    for name in names:
        write(tmp_path / name, kinds[name[0]])
    decoded = []

    def noted(path: Path, image_dir: Path, groups: Any) -> None:
        decoded.extend(name for _, group, _ in groups for name in group)
        by_colmap(path, image_dir, groups)

    monkeypatch.setattr("disk_hloc.io.colmap.import_photos.by_colmap", noted)
    with pycolmap.Database.open(tmp_path / "d.db"):
        pass
    import_photos(tmp_path / "d.db", tmp_path, [("auto", names, {})])
    assert sorted(decoded) == ["a0.jpg", "a1.jpg", "b0.jpg", "b1.jpg", "c0.jpg", "c1.jpg"]
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        assert [image.name for image in database.read_all_images()] == sorted(names)


def test_a_photo_without_a_header(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", PHONE)
    (tmp_path / "b.jpg").write_text("no photo")
    with pycolmap.Database.open(tmp_path / "d.db"):
        pass
    with pytest.raises(DiskHlocError) as error:
        import_photos(tmp_path / "d.db", tmp_path, [("auto", ["a.jpg", "b.jpg"], {})])
    assert one_line_error(error, "cannot read photos of", tmp_path, "b.jpg (")
