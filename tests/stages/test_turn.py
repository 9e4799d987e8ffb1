"""Which photos of a folder are turned: EXIF, votes, and what is remembered."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import read_image
from disk_hloc.models import turn_votes
from disk_hloc.stages import turn
from disk_hloc.stages.turn import _Agreement, _joined, _way_up, turns_path

ORIENTATION = {0: 1, 1: 6, 2: 3, 3: 8}
NAMES = [f"{i:04d}.jpg" for i in range(3, 8)]


def store(data: Path, folder: Path, stored: dict[str, int], tags: dict[str, int] | None = None):
    """Write five photos of a fountain: turned by ``stored``, EXIF as if turned by ``tags``."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        exif = Image.Exif()
        if tags is not None and name in tags:
            exif[ExifTags.Base.Orientation] = ORIENTATION[tags[name]]
        with Image.open(data / "fountain_p11" / "images" / name) as image:
            small = np.asarray(image.convert("RGB").resize((480, 320)))
        Image.fromarray(np.rot90(small, stored.get(name, 0))).save(folder / name, exif=exif)
    return folder


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that are looked at."""
    names: list[str] = []
    read = turn.read_image

    def noted(path: Path, grayscale: bool) -> np.ndarray:
        names.append(path.name)
        return read(path, grayscale)

    monkeypatch.setattr(turn, "read_image", noted)
    return names


def test_photos_vote_on_those_that_are_turned(data: Path, tmp_path: Path, caplog) -> None:
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1, "0006.jpg": 2})
    features = tmp_path / "features.h5"
    with caplog.at_level(logging.INFO):
        found = turn.main("auto", photos, NAMES, features)
    assert found == {"0004.jpg": 3, "0006.jpg": 2}
    assert "2 of 5 photos are turned" in caplog.text
    assert "0004.jpg by 270, 0006.jpg by 180" in caplog.text
    content = json.loads(turns_path(features).read_text())
    assert content["turns"] == {"0004.jpg": 270, "0006.jpg": 180}


def test_exif_is_believed_and_neighbours_more(data: Path, tmp_path: Path, caplog) -> None:
    """A program that turned the pixels of 0006.jpg has left its EXIF data as they were."""
    tags = {"0003.jpg": 0, "0004.jpg": 1, "0005.jpg": 0, "0006.jpg": 3, "0007.jpg": 0}
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1}, tags)
    features = tmp_path / "features.h5"
    assert turn.main("exif", photos, NAMES, features) == {"0004.jpg": 3, "0006.jpg": 1}
    assert "show another way up" not in caplog.text
    assert turn.main("auto", photos, NAMES, features) == {"0004.jpg": 3}
    assert "1 photos show another way up than their EXIF data" in caplog.text


def test_the_photos_of_a_phone_need_no_change(data: Path, tmp_path: Path, caplog) -> None:
    """Most are stored on their side, and EXIF says so."""
    stored = {"0003.jpg": 1, "0004.jpg": 1, "0005.jpg": 3, "0007.jpg": 1}
    photos = store(data, tmp_path / "photos", stored, {name: stored.get(name, 0) for name in NAMES})
    expected = {"0003.jpg": 3, "0004.jpg": 3, "0005.jpg": 1, "0007.jpg": 3}
    for choice in ("auto", "exif"):
        assert turn.main(choice, photos, NAMES, tmp_path / "features.h5") == expected


def test_new_photos_are_turned_as_known_ones_are(data: Path, tmp_path: Path) -> None:
    """Whatever EXIF says, and by others if they see no known photo."""
    stored = {"0005.jpg": 2, "0006.jpg": 3}
    photos = store(data, tmp_path / "photos", stored, {"0006.jpg": 1})
    nothing = turn_votes.describe(np.zeros((8, 8), np.uint8))
    known = turn_votes.describe(read_image(photos / "0004.jpg", grayscale=True))
    # In the map all lie on their sides, and one of them looks like no other.
    found = turn.beside([nothing, known], [3, 1], photos, ["0005.jpg", "0006.jpg", "0007.jpg"])
    assert found == {"0005.jpg": 3, "0006.jpg": 2, "0007.jpg": 1}
    # A photo that agrees with none is as its EXIF data say.
    assert turn.beside([nothing], [2], photos, ["0006.jpg"]) == {"0006.jpg": 3}


def test_photos_vote_once(data: Path, tmp_path: Path, looked: list[str]) -> None:
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1})
    features = tmp_path / "features.h5"
    first = turn.main("auto", photos, NAMES, features)
    assert sorted(looked) == NAMES
    assert turn.main("auto", photos, NAMES, features) == first
    assert sorted(looked) == NAMES
    # Another photo: it may be what the others are compared with.
    store(data, photos, {"0005.jpg": 2})
    assert turn.main("auto", photos, NAMES, features) == {"0005.jpg": 2}
    assert len(looked) == 2 * len(NAMES)
    # A file that something else wrote is as good as none.
    turns_path(features).write_text('{"made_of": 3}')
    assert turn.main("auto", photos, NAMES, features) == {"0005.jpg": 2}


def test_masks_count_as_photos_do(data: Path, tmp_path: Path, looked: list[str]) -> None:
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1})
    (tmp_path / "masks").mkdir()
    masks = {"folder": tmp_path / "masks"}
    features = tmp_path / "features.h5"
    assert turn.main("auto", photos, NAMES, features, masks=masks) == {"0004.jpg": 3}
    cv2.imwrite(str(tmp_path / "masks" / "0004.jpg.png"), np.zeros((480, 320), np.uint8))
    # Nothing is left that could vote.
    assert turn.main("auto", photos, NAMES, features, masks=masks) == {}
    assert len(looked) == 2 * len(NAMES)


def test_all_photos_are_turned_by_the_same(tmp_path: Path) -> None:
    features = tmp_path / "features.h5"
    turns_path(features).touch()
    names = ["a.jpg", "b.jpg"]
    assert turn.main("270", tmp_path, names, features) == {"a.jpg": 3, "b.jpg": 3}
    assert turn.read_turns(features) == {"a.jpg": 270, "b.jpg": 270}
    assert turn.main("0", tmp_path, names, features) == {}
    assert turn.main("none", tmp_path, names, features) == {}
    # It would say what is no longer true.
    assert not turns_path(features).exists()
    assert turn.read_turns(features) == {}


def test_an_unknown_turn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="no turn is called '45'"):
        turn.main("45", tmp_path, ["a.jpg"], tmp_path / "features.h5")


def test_photos_that_cannot_be_read_are_left_alone(data: Path, tmp_path: Path) -> None:
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1})
    (photos / "0005.jpg").write_bytes(b"no photo")
    os.remove(photos / "0006.jpg")
    assert turn.main("auto", photos, NAMES, tmp_path / "features.h5") == {"0004.jpg": 3}
    assert turn.main("auto", photos, ["0005.jpg", "0006.jpg"], tmp_path / "f.h5") == {}


def test_too_many_photos_do_not_vote(data: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    photos = store(data, tmp_path / "photos", {"0004.jpg": 1, "0006.jpg": 1}, {"0004.jpg": 1})
    monkeypatch.setattr(turn, "MAX_PHOTOS", 4)
    assert turn.main("auto", photos, NAMES, tmp_path / "features.h5") == {"0004.jpg": 3}
    assert "5 photos are too many" in caplog.text


@given(st.data())
def test_groups_keep_the_turns_that_photos_agree_on(data: st.DataObject) -> None:
    stored = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)))
    index = st.integers(0, len(stored) - 1)
    pairs = data.draw(st.lists(st.tuples(index, index, st.integers(8, 50)), max_size=20))
    agreements = [
        _Agreement(votes, i, j, int(stored[i] - stored[j]) % 4) for i, j, votes in pairs if i != j
    ]
    groups = _joined(len(stored), agreements)
    assert sorted(i for members, _ in groups for i in members) == list(range(len(stored)))
    assert [len(members) for members, _ in groups] == sorted(
        (len(members) for members, _ in groups), reverse=True
    )
    group_of = {i: k for k, (members, _) in enumerate(groups) for i in members}
    assert all(group_of[one.first] == group_of[one.second] for one in agreements)
    for members, offsets in groups:
        # All are the same way up once each is turned by its offset.
        assert len(set((stored[members] + offsets) % 4)) == 1
        # A guess that is right for most makes it right for all.
        guessed = -stored[members] % 4
        guessed[: (len(members) - 1) // 2] += 1
        way = _way_up(guessed % 4, np.zeros(len(members), bool), offsets)
        assert ((stored[members] + offsets + way) % 4 == 0).all()


def test_the_clearest_votes_join_photos() -> None:
    """Of three agreements in a ring the weakest contradicts the others."""
    ring = [_Agreement(9, 0, 2, 3), _Agreement(20, 0, 1, 1), _Agreement(30, 1, 2, 1)]
    ((members, offsets),) = _joined(3, ring)
    assert members == [0, 1, 2]
    assert ((offsets - offsets[0]) % 4).tolist() == [0, 1, 2]


def test_exif_decides_between_equals() -> None:
    offsets = np.array([0, 1])
    assert _way_up(np.array([0, 0]), np.array([False, False]), offsets) == 0
    assert _way_up(np.array([0, 0]), np.array([False, True]), offsets) == 3
