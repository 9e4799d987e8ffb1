"""release view: what is drawn, and where it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageShow

from disk_hloc.errors import DiskHlocError
from disk_hloc.release import view
from support.errors import one_line_error
from support.release_files import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Black photos of two sizes, with two keypoints and one match."""
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 80)).save(tmp_path / "b.png")
    keypoints = {
        "a": np.array([[10, 20], [50, 5]], np.float32),
        "b": np.array([[30, 70], [5, 5]], np.float32),
    }
    return write_folder(tmp_path, keypoints, {("a", "b"): np.array([[1], [0]])})


def test_keypoints_are_white_dots(folder: Path) -> None:
    written = view.main(folder, folder, "keypoints", image_extension="png", save=folder / "out")
    assert written == [folder / "out" / "1.png", folder / "out" / "2.png"]
    first = np.asarray(Image.open(written[0]))
    assert first.shape == (40, 60, 3)
    assert (first[20, 10] == 255).all()
    assert (first[5, 50] == 255).all()
    assert 2 <= (first == 255).all(axis=2).sum() <= 40


def test_a_match_is_a_green_line_between_the_photos(folder: Path) -> None:
    (path,) = view.main(folder, folder, "matches", image_extension=".png", save=folder / "out")
    picture = np.asarray(Image.open(path))
    assert picture.shape == (80, 100, 3)
    assert (picture[5, 50] == 255).all()
    assert (picture[70, 90] == 255).all()
    # Halfway between (50, 5) and (60 + 30, 70).
    around = picture[35:41, 66:75].reshape(-1, 3).tolist()
    assert list(view.LINE_COLOR) in around
    # Unmatched.
    assert (picture[20, 10] == 0).all()


def test_without_a_folder_pictures_are_shown(folder: Path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda picture, title: shown.append(title) or True)
    assert view.main(folder, folder, "keypoints", image_extension="png") == []
    assert shown == ["a", "b"]
    monkeypatch.setattr(ImageShow, "show", lambda picture, title: False)
    with pytest.raises(DiskHlocError) as error:
        view.main(folder, folder, "keypoints", image_extension="png")
    one_line_error(error, "--save")


def test_errors(folder: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        view.main(folder, folder, "keypoints", save=folder / "out")
    one_line_error(error, "a.jpg", "--image-extension")
    with pytest.raises(DiskHlocError) as error:
        view.main(folder, folder, "all")
    one_line_error(error, "keypoints, matches")
    (folder / "b.png").write_text("no image")
    with pytest.raises(DiskHlocError) as error:
        view.main(folder, folder, "matches", image_extension="png", save=folder / "out")
    one_line_error(error, folder / "b.png")
    write_folder(folder, {"a": np.zeros((1, 2))}, {("a", "z"): np.zeros((2, 1), int)})
    with pytest.raises(DiskHlocError) as error:
        view.main(folder, folder, "matches", image_extension="png", save=folder / "out")
    one_line_error(error, "matches.h5", "z")
