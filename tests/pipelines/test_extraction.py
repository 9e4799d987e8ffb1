"""From photos to features, all photos the same way up."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError
from disk_hloc.pipelines import extraction
from disk_hloc.stages.turn import read_turns, turns_path

CONF = {
    "output": "features",
    "model": {"name": "disk", "max_keypoints": 500},
    "preprocessing": {"resize_max": 320},
}


@pytest.fixture
def photos(data: Path, tmp_path: Path) -> Path:
    """Four photos of a fountain, two of them stored turned; nothing says so."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, quarters in ((3, 0), (4, 1), (5, 0), (6, 2)):
        image = cv2.imread(str(data / "fountain_p11" / "images" / f"{i:04d}.jpg"))
        small = cv2.resize(image, (480, 320), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{i}.jpg"), np.rot90(small, quarters))
    return folder


def made_of(path: Path) -> dict[str, str]:
    with h5py.File(path) as file:
        return {name: file[name].attrs["disk_hloc_made_of"].decode() for name in file}


def test_turned_photos_are_found_and_remembered(photos: Path, tmp_path: Path) -> None:
    path = extraction.main(CONF, photos, tmp_path / "features.h5")
    turned = {name: line.split()[3:] for name, line in made_of(path).items()}
    assert turned == {"3.jpg": [], "4.jpg": ["turned270"], "5.jpg": [], "6.jpg": ["turned180"]}
    before = path.read_bytes()
    assert extraction.main(CONF, photos, path).read_bytes() == before
    # A photo is stored upright again: the file is that of one run on the photos as they are now.
    image = cv2.imread(str(photos / "4.jpg"))
    cv2.imwrite(str(photos / "4.jpg"), np.rot90(image, 3))
    extraction.main(CONF, photos, path)
    once = extraction.main(CONF, photos, tmp_path / "once.h5")
    assert path.read_bytes() == once.read_bytes() != before
    assert json.loads(turns_path(path).read_text())["turns"] == {"6.jpg": 180}


def test_lists_of_one_folder_agree_on_what_is_up(photos: Path, tmp_path: Path) -> None:
    """Alone, the two of the list would vote for the first."""
    (tmp_path / "list.txt").write_text("4.jpg\n6.jpg\n")
    path = extraction.main(CONF, photos, tmp_path / "features.h5", image_list=tmp_path / "list.txt")
    turned = {name: line.split()[3:] for name, line in made_of(path).items()}
    assert turned == {"4.jpg": ["turned270"], "6.jpg": ["turned180"]}


def test_hlocs_extractors_take_photos_as_they_are(photos: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    conf = {**CONF, "model": {"name": "superpoint"}}
    path = tmp_path / "features.h5"
    extraction.works([conf], photos, [path], path)
    assert "they turn nothing" in caplog.text
    assert read_turns(path) == {}
    with pytest.raises(DiskHlocError, match="use --turn none"):
        extraction.works([conf], photos, [path], path, turn="90")
    # Beside one of ours, whose photos are turned.
    both = [tmp_path / "a" / "features.h5", tmp_path / "b" / "features.h5"]
    _, ours = extraction.works([conf, CONF], photos, both, path)
    assert ours.path == both[1]
    assert read_turns(path) == {"4.jpg": 270, "6.jpg": 180}


def test_other_extractors_go_the_same_road(photos: Path, tmp_path: Path) -> None:
    conf = confs.extractors()["sift"]
    path = extraction.main(conf, photos, tmp_path / "features.h5")
    assert made_of(path)["4.jpg"].endswith(" turned270")
    with h5py.File(path) as file:
        assert file["4.jpg/image_size"][()].tolist() == [320, 480]
        assert (file["4.jpg/keypoints"][()].max(axis=0) < [320, 480]).all()
