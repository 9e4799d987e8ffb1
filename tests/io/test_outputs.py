"""An output that is an input, a folder, or another kind of file is refused; nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.outputs import (
    MANIFEST,
    claim_files,
    remove_files,
    require_output,
    require_output_folder,
)
from support.errors import one_line_error


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a.jpg")
    return path


def test_new_and_former_outputs_pass(features, tmp_path):
    require_output(tmp_path / "new" / "m.h5", "hdf5", {"features": features, "pairs": None})
    require_output(features, "hdf5", {"pairs": tmp_path / "pairs.txt"})
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("ä.jpg b.jpg\n" * 2000, encoding="utf-8")
    require_output(pairs, "text", {"features": features})
    pairs.write_text("")
    require_output(pairs, "hdf5", {})


@pytest.mark.parametrize("spelling", ["same", "dots", "link", "hard link", "link to a folder"])
def test_an_input_is_refused_under_any_name(features, tmp_path, spelling):
    other = {
        "same": features,
        "dots": tmp_path / "x" / ".." / "features.h5",
        "link": tmp_path / "link.h5",
        "hard link": tmp_path / "hard.h5",
        "link to a folder": tmp_path / "folder" / "features.h5",
    }[spelling]
    (tmp_path / "x").mkdir()
    (tmp_path / "link.h5").symlink_to(features)
    (tmp_path / "folder").symlink_to(tmp_path)
    os.link(features, tmp_path / "hard.h5")
    with pytest.raises(DiskHlocError) as error:
        require_output(other, "hdf5", {"features": features})
    assert one_line_error(error, "features", "give another name")


def test_an_input_that_does_not_exist_yet_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DiskHlocError, match="input"):
        require_output(tmp_path / "x" / ".." / "a", "text", {"list": tmp_path / "a"})


@pytest.mark.parametrize("name", [".", "./", "..", "folder", "link"])
def test_a_folder_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    with pytest.raises(DiskHlocError) as error:
        require_output(Path(name), "hdf5", {})
    assert one_line_error(error, "folder")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskHlocError, match="regular"):
        require_output(tmp_path / "pipe", "text", {})


def test_a_file_of_another_kind_is_refused(features, tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)))
    for path, kind in ((photo, "hdf5"), (photo, "text"), (features, "text")):
        with pytest.raises(DiskHlocError) as error:
            require_output(path, kind, {})
        assert one_line_error(error, path, "is not")


def test_a_file_cannot_be_an_output_folder(features, tmp_path):
    for path in (features, tmp_path / "model"):
        (tmp_path / "model").mkdir(exist_ok=True)
        with pytest.raises(DiskHlocError):
            require_output_folder(path, {"model": tmp_path / "model"})
    require_output_folder(tmp_path / "new", {"model": tmp_path / "model"})


def written(folder: Path, names: list[str]) -> None:
    claim_files(folder, names)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("ours")


def test_claimed_files_replace_only_those_claimed_before(tmp_path):
    mine = tmp_path / "depth" / "lidar.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    written(tmp_path, ["depth/a.h5", "calibration/a/b.h5"])
    written(tmp_path, ["depth/b.h5"])
    assert mine.read_text() == "mine"
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == sorted([MANIFEST, "depth", "depth/lidar.txt", "depth/b.h5"])


def test_a_file_of_the_user_is_not_claimed(tmp_path):
    written(tmp_path, ["a.h5"])
    (tmp_path / "b.h5").write_text("mine")
    with pytest.raises(DiskHlocError) as error:
        claim_files(tmp_path, ["b.h5", "c.h5"])
    assert one_line_error(error, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").exists()
    assert (tmp_path / "b.h5").read_text() == "mine"


def test_a_list_of_files_that_leads_out_of_its_folder_removes_nothing(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / MANIFEST).write_text("../mine\n")
    with pytest.raises(DiskHlocError) as error:
        claim_files(folder, ["a"])
    assert one_line_error(error, MANIFEST)
    assert mine.exists()


def test_files_are_removed_with_their_empty_folders(tmp_path):
    for name in ("x/y/a", "x/b", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    remove_files(tmp_path, ["x/y/a", "c", "gone/d"])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b", "x"]
