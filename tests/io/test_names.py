"""Names in files cannot leave the folders that the user gives."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import names
from disk_hloc.io.benchmarks.calibrated_pairs import read_calibrated_pairs
from disk_hloc.io.benchmarks.nvm import read_nvm
from disk_hloc.io.coco import read_coco
from disk_hloc.io.colmap import read_cameras, read_images_and_pairs, read_model
from disk_hloc.io.conf_files import read_conf
from disk_hloc.io.hloc.features import list_features, list_keypoints
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.hloc.queries import read_queries, read_retrieval
from disk_hloc.io.images import read_image_list
from disk_hloc.io.masks import find_mask
from disk_hloc.io.names import is_relative, natural_order, require_relative
from disk_hloc.io.release import names_of
from disk_hloc.pipelines.aachen import read_conf as read_pipeline
from disk_hloc.report.mask_pictures import mask_previews
from support.errors import one_line_error

OUTSIDE = ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..", "a/.."]
CAMERA = "PINHOLE 640 480 500 500 320 240"


@pytest.mark.parametrize("name", [*OUTSIDE, "", ".", "./", "a\0b", "\udce4.jpg"])
def test_names_that_leave_the_folder_or_are_invalid_are_refused(name: str) -> None:
    with pytest.raises(DiskHlocError) as error:
        require_relative(name, "list.txt, line 3")
    assert one_line_error(error, "list.txt, line 3: ", repr(name))
    assert not is_relative(name)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("a//b/./c.jpg", "a/b/c.jpg"),
        ("..a/b...jpg", "..a/b...jpg"),
        ("é \n.jpg", "é \n.jpg"),
        # Decomposed Unicode, as some systems store it, is not changed.
        ("e\u0301.jpg", "e\u0301.jpg"),
    ],
)
def test_other_names_are_normalized(name: str, same: str) -> None:
    assert require_relative(name, "here") == same


@given(name=st.from_regex(names._PLAIN, fullmatch=True))
def test_plain_names_are_what_the_full_check_says(name: str) -> None:
    assert names._why_not(name) is None
    assert require_relative(name, "list.txt") == name == PurePosixPath(name).as_posix()


@given(parts=st.lists(st.sampled_from(["a", "..", ".", "", "b.jpg", "..."]), max_size=6))
def test_accepted_names_stay_inside(parts: list[str]) -> None:
    name = "/".join(parts)
    if is_relative(name):
        joined = os.path.normpath(Path("/top/images") / require_relative(name, "here"))
        assert joined.startswith("/top/images/")


TEXT = {
    "pairs": ("a.jpg b.jpg\n{} b.jpg\n", read_pairs),
    "second of a pair": ("a.jpg b.jpg\nb.jpg {}\n", read_pairs),
    "image list": ("a.jpg\n{}\n", read_image_list),
    "queries": ("a.jpg " + CAMERA + "\n{} " + CAMERA + "\n", read_queries),
    "retrieval": ("q.jpg a.jpg\nq.jpg {}\n", read_retrieval),
    "poses": ("a.jpg 1 0 0 0 0 0 0\n{} 1 0 0 0 0 0 0\n", read_poses),
    "calibrated pairs": (
        "\n{} b.jpg 0 0 " + "500 0 320 0 500 240 0 0 1 " * 2 + "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1\n",
        read_calibrated_pairs,
    ),
}


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("name", OUTSIDE[:3])
def test_the_error_names_the_line_of_a_list(kind: str, name: str, tmp_path: Path) -> None:
    text, read = TEXT[kind]
    path = tmp_path / "list.txt"
    path.write_text(text.format(name))
    with pytest.raises(DiskHlocError) as error:
        read(path)
    assert one_line_error(error, f"{path}, line 2: ", name)


def test_a_list_does_not_read_a_file_outside_its_folder(tmp_path: Path) -> None:
    """The file exists, and would otherwise be read."""
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_text("x")
    (tmp_path / "list.txt").write_text("../secret.jpg\n")
    with pytest.raises(DiskHlocError, match="leaves its folder"):
        read_image_list(tmp_path / "list.txt", tmp_path / "images")


@pytest.mark.parametrize("name", OUTSIDE[:2])
def test_models_and_databases(name: str, tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text(f"1 {CAMERA}\n")
    (tmp_path / "images.txt").write_text(f"1 1 0 0 0 0 0 0 1 {name}\n\n")
    (tmp_path / "points3D.txt").write_text("")
    with pytest.raises(DiskHlocError) as error:
        read_model(tmp_path)
    assert one_line_error(error, tmp_path, name)
    database = tmp_path / "database.db"
    with sqlite3.connect(database) as file:
        file.execute("CREATE TABLE images (image_id INTEGER, name TEXT, camera_id INTEGER)")
        file.execute("CREATE TABLE cameras (camera_id INTEGER, model INTEGER, params BLOB)")
        file.execute("CREATE TABLE matches (pair_id INTEGER, rows INTEGER, data BLOB)")
        file.execute("INSERT INTO images VALUES (1, ?, 1)", (name,))
    file.close()
    for read in (read_images_and_pairs, read_cameras):
        with pytest.raises(DiskHlocError) as error:
            read(database)
        assert one_line_error(error, database, name)


def test_nvm(tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text(f"a.jpg {CAMERA}\n")
    (tmp_path / "m.nvm").write_text("NVM_V3\n1\n../a.jpg 500 1 0 0 0 1 2 3 0 0\n0\n")
    with pytest.raises(DiskHlocError) as error:
        read_nvm(tmp_path / "m.nvm", tmp_path / "k.txt")
    assert one_line_error(error, tmp_path / "m.nvm", "../a.jpg")


@pytest.mark.parametrize("read", [list_features, list_keypoints])
def test_hdf5(read, tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("images").create_group("..").create_group("x.jpg")
        group["keypoints"], group["image_size"] = np.zeros((1, 2)), np.array([4, 4])
    with pytest.raises(DiskHlocError) as error:
        read(path)
    assert one_line_error(error, path, "images/../x.jpg")


def test_a_preview_is_not_written_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file.create_group("..").create_group("x.jpg")["keypoints"] = np.zeros((1, 2))
    with pytest.raises(DiskHlocError, match="leaves its folder"):
        mask_previews(tmp_path / "preview", tmp_path, path, None)
    assert not (tmp_path / "x.jpg.png").exists()


def test_names_in_the_files_of_disks_release(tmp_path: Path) -> None:
    path = tmp_path / "keypoints.h5"
    with h5py.File(path, "w") as file:
        file[".."] = np.zeros((1, 2))
    with pytest.raises(DiskHlocError) as error:
        names_of(path)
    assert one_line_error(error, path, "'..'")


def test_the_output_of_a_conf_must_be_a_name(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("output: ../../x\nmodel: {name: disk}\n")
    with pytest.raises(DiskHlocError) as error:
        read_conf("matchers", path)
    assert one_line_error(error, path, "../../x")
    path.write_text("output: [x]\nmodel: {name: disk}\n")
    with pytest.raises(DiskHlocError, match="is not a string"):
        read_conf("matchers", path)


@pytest.mark.parametrize("key", ["name", "images", "model", "queries"])
def test_a_pipelines_conf_stays_in_its_folders(key: str, tmp_path: Path) -> None:
    conf = dict.fromkeys(["name", "images", "model", "queries"], "x")
    conf |= dict.fromkeys(["extractor", "matcher", "retrieval", "query_prefix"], "x")
    conf[key] = "/tmp/elsewhere"
    path = tmp_path / "aachen.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in conf.items()))
    with pytest.raises(DiskHlocError) as error:
        read_pipeline(str(path))
    assert one_line_error(error, key, path, "/tmp/elsewhere")


def test_names_in_a_coco_file_are_only_compared(tmp_path: Path) -> None:
    """Data sets contain absolute names; only the photo's own name is looked up."""
    path = tmp_path / "c.json"
    path.write_text('{"images": [{"id": 1, "file_name": "/etc/passwd"}], "annotations": []}')
    objects = read_coco(path)
    assert objects("passwd", (4, 4)) == []
    assert objects("other", (4, 4)) is None


def test_a_mask_is_only_searched_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    assert find_mask(tmp_path / "masks", "a/b.jpg") is None


def test_frames_are_in_the_order_of_their_numbers() -> None:
    names = ["frame10.jpg", "frame2.jpg", "a/7.jpg", "frame1b.jpg", "frame02.jpg", "frame1.jpg"]
    assert sorted(names, key=natural_order) == [
        "a/7.jpg", "frame1.jpg", "frame1b.jpg", "frame02.jpg", "frame2.jpg", "frame10.jpg",
    ]  # fmt: skip


@given(st.lists(st.text("ab019._/", min_size=1), unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    backwards = list(reversed(names))
    assert sorted(names, key=natural_order) == sorted(backwards, key=natural_order)
