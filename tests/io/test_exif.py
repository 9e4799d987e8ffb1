"""EXIF data of photos as cameras write them, and as programs break them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, ImageOps

from disk_hloc.io.exif import Exif, Position, read_exif


def write(
    path: Path, orientation: int | None = None, gps: dict[int, object] | None = None, time: str = ""
) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    if gps is not None:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    if time:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = time
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.SubsecTimeOriginal] = "25"
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1), (5, None), (99, None), (None, None)]
)
def test_quarter_turns_show_the_photo_upright(
    orientation: int | None, turns: int | None, tmp_path: Path
) -> None:
    assert read_exif(write(tmp_path / "a.jpg", orientation)).quarter_turns == turns


def test_orientation_agrees_with_pillow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        with Image.open(tmp_path / "a.png") as image:
            upright = np.asarray(ImageOps.exif_transpose(image))
        turns = read_exif(tmp_path / "a.png").quarter_turns
        assert turns is not None
        np.testing.assert_array_equal(np.rot90(pixels, turns), upright)


def test_a_png_without_exif_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loaded.append(image))
    assert read_exif(tmp_path / "a.png") == Exif()
    assert loaded == []


def test_time_and_position(tmp_path: Path) -> None:
    gps = {
        1: "S",
        2: (52.0, 30.0, 36.0),
        3: "W",
        4: (13.0, 24.0, 0.0),
        5: b"\x01",
        6: 27.5,
        31: 4.0,
    }
    found = read_exif(write(tmp_path / "a.jpg", gps=gps, time="2016:06:23 16:32:43"))
    assert found.time == datetime(2016, 6, 23, 16, 32, 43, 250000)
    assert found.position == Position(
        pytest.approx(-52.51), pytest.approx(-13.4), pytest.approx(-27.5), pytest.approx(4)
    )


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (152.0, 0.0, 0.0), 3: "E", 4: (13.0, 0.0, 0.0)},
        {1: "N", 2: (52.0, 0.0, 0.0)},
        {6: 27.0},
    ],
)
def test_an_absurd_position_is_none(gps: dict[int, object], tmp_path: Path) -> None:
    assert read_exif(write(tmp_path / "a.jpg", gps=gps)).position is None


def test_broken_dates_and_files(tmp_path: Path) -> None:
    assert read_exif(write(tmp_path / "a.jpg", time="0000:00:00 00:00:00")) == Exif()
    (tmp_path / "b.jpg").write_bytes(b"no image")
    assert read_exif(tmp_path / "b.jpg") == Exif()
    assert read_exif(tmp_path / "missing.jpg") == Exif()


def test_real_photos(data: Path) -> None:
    found = read_exif(data / "folders/brighton/images/DJI_0018.JPG")
    assert found.position is not None
    assert found.position.latitude == pytest.approx(46.843, abs=0.01)
    assert found.position.longitude == pytest.approx(-91.994, abs=0.01)
    assert found.time is not None
