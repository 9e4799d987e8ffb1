"""Digests of photos and masks: right, and without reading what has not changed."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from disk_hloc.io import inputs as module
from disk_hloc.io.digests import digest_of_file
from disk_hloc.io.inputs import Inputs, inputs_path
from disk_hloc.io.masks import Masks
from disk_hloc.io.store.fingerprints import NOTHING


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, gray in (("a.png", 10), ("b.png", 20)):
        cv2.imwrite(str(folder / name), np.full((30, 40), gray, np.uint8))
        _age(folder / name)
    return folder


def _age(path: Path, seconds: int = 100) -> None:
    """Make a file look older, as photos are."""
    status = path.stat()
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read for their digests."""
    # The time of change cannot be set back as the time of modification can.
    monkeypatch.setattr(module, "_RACY_SECONDS", 0)
    names: list[str] = []

    def read(path: Path) -> str:
        names.append(path.name)
        return digest_of_file(path)

    monkeypatch.setattr(module, "digest_of_file", read)
    return names


def both(folder: Path, photos: Path) -> list[str | None]:
    found = Inputs(folder / "f.h5", photos)
    digests = [found.of("a.png"), found.of("b.png")]
    found.save()
    return digests


def test_a_photo_is_read_once(tmp_path, photos, reads):
    first = both(tmp_path, photos)
    assert first == [f"{digest_of_file(photos / name)} -" for name in ("a.png", "b.png")]
    assert both(tmp_path, photos) == first
    assert reads == ["a.png", "b.png"]


def test_a_touched_photo_is_read_once_more_and_is_the_same(tmp_path, photos, reads):
    first = both(tmp_path, photos)
    os.utime(photos / "b.png")
    for _ in range(2):
        assert both(tmp_path, photos) == first
    assert reads == ["a.png", "b.png", "b.png"]


def test_a_photo_of_the_same_size_and_time_is_noticed(tmp_path, photos, reads):
    first = both(tmp_path, photos)
    status = (photos / "a.png").stat()
    content = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(photos / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert both(tmp_path, photos)[0] != first[0]


def test_a_photo_that_has_just_changed_is_not_remembered(tmp_path, photos):
    (photos / "a.png").write_bytes(b"new")
    both(tmp_path, photos)
    assert "a.png" not in inputs_path(tmp_path / "f.h5").read_text()


def test_a_missing_photo_has_no_digest(tmp_path, photos):
    (photos / "a.png").unlink()
    os.mkfifo(photos / "pipe")
    found = Inputs(tmp_path / "f.h5", photos)
    assert found.of("a.png") is None
    assert found.of("pipe") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"photos": 5}', '{"photos": {"a.png": 1}}'])
def test_a_damaged_cache_is_as_good_as_none(tmp_path, photos, text):
    inputs_path(tmp_path / "f.h5").write_text(text)
    assert both(tmp_path, photos)[0] == f"{digest_of_file(photos / 'a.png')} -"


def test_a_mask_is_judged_by_what_it_masks(tmp_path, photos, reads):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.full((30, 40), 255, np.uint8)
    cv2.imwrite(str(folder / "a.png.png"), mask)

    def digest(**options: object) -> str:
        found = Inputs(tmp_path / "f.h5", photos, Masks({"folder": folder, **options}))
        result = found.of("a.png")
        found.save()
        assert result is not None
        return result.split()[1]

    assert digest() == NOTHING  # white keeps everything
    mask[:10] = 0
    cv2.imwrite(str(folder / "a.png.png"), mask)
    first = digest()
    assert first != NOTHING
    assert digest() == first
    assert digest(dilate=2) != first
    assert digest(invert=True) != first
    # Another file of the same content.
    (folder / "a.png.png").rename(folder / "a.png")
    assert digest() == first
